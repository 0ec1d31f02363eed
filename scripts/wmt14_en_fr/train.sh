#!/usr/bin/env bash
# Train on WMT14 En-Fr as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq train wmt14_en_fr --data-dir "$root/data/wmt14_en_fr" --save-dir "$root/runs/wmt14_en_fr" "$@"
