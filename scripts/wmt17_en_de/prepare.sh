#!/usr/bin/env bash
# Prepare wmt17_en_de: download, clean, tokenise, split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare wmt17_en_de "$@"
