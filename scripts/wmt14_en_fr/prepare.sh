#!/usr/bin/env bash
# Prepare wmt14_en_fr: download, tokenise, drop pairs by length, split into subword pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare wmt14_en_fr "$@"
