#!/usr/bin/env bash
# Translate newstest2014 and compute BLEU as published: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published evaluate wmt14_en_fr "$@"
