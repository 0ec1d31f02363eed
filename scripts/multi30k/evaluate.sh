#!/usr/bin/env bash
# Translate Multi30k's test set and score it: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq evaluate multi30k --data-dir "$root/data/multi30k" --save-dir "$root/runs/multi30k" "$@"
