#!/usr/bin/env bash
# Translate the test set of IWSLT14 De-En and score it as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Average the last checkpoints of the runs of scripts/iwslt14_de_en/train.sh, translate the test
set and print tokenised, compound-split and detokenised BLEU beside the published ones. The window of
epochs is fixed beforehand, never chosen on the test set. T-Fixup's runs: --last-epoch 300 --beam 4
--lenpen 0.3. Words after -- go to fairseq-generate as they are."
run_options iwslt14_de_en "1111 2222 3333 4444 5555"
option recipe "" "as for train.sh"
evaluate_options 10 90 5 1.0
parse_options "$@"

evaluate_published
