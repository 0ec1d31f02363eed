#!/usr/bin/env bash
# Translate Multi30k's test set with trained models and print BLEU: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published evaluate multi30k "$@"
