#!/usr/bin/env bash
# Translate the test set and score it as published: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq evaluate iwslt14_de_en --data-dir "$root/data/iwslt14_de_en" --save-dir "$root/runs/iwslt14_de_en" "$@"
