#!/usr/bin/env bash
# Translate the test set of IWSLT14 De-En and score it as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Average the last checkpoints of the runs of scripts/iwslt14_de_en/train.sh, translate the test
set and print tokenised, compound-split and detokenised BLEU beside the published ones. The window of
epochs is fixed beforehand, never chosen on the test set: up to epoch 90, beam 5; for T-Fixup's recipe
up to epoch 300, beam 4, length penalty 0.3. Words after -- go to fairseq-generate as they are."
run_options iwslt14_de_en "1111 2222 3333 4444 5555"
option recipe "" "as for train.sh"
evaluate_options 10 "" "" ""
parse_options "$@"

decoding=(90 5 1.0)
case $scheme:$recipe in *:tfixup | tfixup:) decoding=(300 4 0.3) ;; esac
: "${last_epoch:=${decoding[0]}}" "${beam:=${decoding[1]}}" "${lenpen:=${decoding[2]}}"
evaluate_published
