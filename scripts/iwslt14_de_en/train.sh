#!/usr/bin/env bash
# Train on IWSLT14 De-En as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq train iwslt14_de_en --data-dir "$root/data/iwslt14_de_en" --save-dir "$root/runs/iwslt14_de_en" "$@"
