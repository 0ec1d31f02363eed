#!/usr/bin/env bash
# Prepare wmt14_en_fr: download, clean, tokenise, split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare wmt14_en_fr "$@"
