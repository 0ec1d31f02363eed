#!/usr/bin/env bash
# Translate newstest2014 and score it as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Average the last checkpoints of the runs of scripts/wmt14_en_de/train.sh, translate
newstest2014 and print tokenised, compound-split and detokenised BLEU beside the published ones. The
window of epochs is fixed beforehand, never chosen on the test set: up to epoch 100, for admin-torch
from 100 layers on up to epoch 40. Words after -- go to fairseq-generate as they are."
run_options wmt14_en_de 1111
evaluate_options 10 "" 4 0.6
parse_options "$@"

whole encoder-layers
epochs=100
[ "$scheme" != admin-torch ] || [ "$encoder_layers" -lt 100 ] || epochs=40
: "${last_epoch:=$epochs}"
evaluate_published
