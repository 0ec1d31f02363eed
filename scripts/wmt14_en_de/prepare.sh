#!/usr/bin/env bash
# Prepare wmt14_en_de: download, clean, tokenise, split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq prepare wmt14_en_de --data-dir "$root/data/wmt14_en_de" "$@"
