#!/usr/bin/env bash
# Train a small model on Multi30k De-En: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq train multi30k --data-dir "$root/data/multi30k" --save-dir "$root/runs/multi30k" "$@"
