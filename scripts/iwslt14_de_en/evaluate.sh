#!/usr/bin/env bash
# Translate the test set and compute BLEU as published: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published evaluate iwslt14_de_en "$@"
