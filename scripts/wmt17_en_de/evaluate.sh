#!/usr/bin/env bash
# Translate newstest2014 and score it as published: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq evaluate wmt17_en_de --data-dir "$root/data/wmt17_en_de" --save-dir "$root/runs/wmt17_en_de" "$@"
