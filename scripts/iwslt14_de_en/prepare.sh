#!/usr/bin/env bash
# Prepare iwslt14_de_en: download, clean, tokenise, split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare iwslt14_de_en "$@"
