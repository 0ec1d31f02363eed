#!/usr/bin/env bash
# Prepare iwslt14_de_en: download, clean, tokenise, split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq prepare iwslt14_de_en --data-dir "$root/data/iwslt14_de_en" "$@"
