#!/usr/bin/env bash
# Train on WMT14 En-De as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq train wmt14_en_de --data-dir "$root/data/wmt14_en_de" --save-dir "$root/runs/wmt14_en_de" "$@"
