#!/usr/bin/env bash
# Prepare iwslt14_de_en: download, tokenise, drop pairs by length, split into subword pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare iwslt14_de_en "$@"
