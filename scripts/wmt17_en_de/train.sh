#!/usr/bin/env bash
# Train on WMT17 En-De as admin-torch compares Admin, DeepNet and itself: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq train wmt17_en_de --data-dir "$root/data/wmt17_en_de" --save-dir "$root/runs/wmt17_en_de" "$@"
