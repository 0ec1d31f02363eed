#!/usr/bin/env bash
# Translate newstest2014 and score it as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Average the last checkpoints of the runs of scripts/wmt17_en_de/train.sh, translate
newstest2014 and print tokenised, compound-split and detokenised BLEU beside the published ones. The
window of epochs is fixed beforehand, never chosen on the test set: up to epoch 45, as in
admin-torch's comparison. Words after -- go to fairseq-generate as they are."
run_options wmt17_en_de 1111
option batches 8 "as for train.sh"
evaluate_options 10 45 4 0.6
parse_options "$@"

[[ $batches =~ ^(8|128)$ ]] || fail "--batches $batches: use 8 or 128"
recipe=$batches
evaluate_published
