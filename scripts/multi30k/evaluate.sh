#!/usr/bin/env bash
# Translate Multi30k's test set, print BLEU and write it beside the checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Translate the 2016 Flickr test set with a trained model and print detokenised BLEU
with its sacreBLEU signature; evaluation.json in the run's folder holds them for admin-fairseq
results. Words after -- go to fairseq-generate as they are."
option data-dir "$root/data/multi30k" "where prepare.sh wrote"
option save-dir "" "where train.sh wrote"
option checkpoint checkpoint_best.pt "which checkpoint in it"
option beam 5 "beam width"
option max-tokens 4096 "tokens in a batch"
option precision fp32 "fp32 or fp16 (on a GPU)"
flag cpu "translate on the CPU even where there is a GPU"
parse_options "$@"

[ -n "${save_dir:=}" ] || fail "--save-dir is needed (see --help)"
[ -f "$save_dir/$checkpoint" ] || fail "$save_dir/$checkpoint is missing; run scripts/multi30k/train.sh first"
setup_venv quickstart

choose_device "$precision" "$cpu"
say "Translating"
generate "$data_dir/bin" "$save_dir/$checkpoint" "$save_dir/test" \
    --beam "$beam" --max-tokens "$max_tokens" "${device[@]}" "${extra[@]}"
admin-fairseq score "$save_dir/test.hyp" --reference "$data_dir/test.en" --dataset multi30k \
    --output "$save_dir/evaluation.json" --force --checkpoint "$checkpoint" --beam "$beam"
