#!/usr/bin/env bash
# Train schemes at several depths with several seeds on Multi30k De-En, score them, print a table.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train schemes at several depths with several seeds, all with the settings of train.sh, translate
the test set with each, and print one table (scripts/multi30k/prepare.sh first). With --jobs, several
runs go at a time, each on one core. Words after -- go to fairseq-train as they are. Run again, it goes
on where it stopped."
option data-dir "$root/data/multi30k" "where prepare.sh wrote"
option save-dir "$root/runs/multi30k/table" "a folder for each run is made there"
option schemes "postln preln admin tfixup" "architectures, without _transformer"
option depths "6 18" "layers of the encoder and of the decoder"
option seeds "1 2" "random seeds"
option updates 800 "number of updates"
option max-tokens 1024 "tokens in a batch"
option jobs 1 "runs at a time"
flag cpu "train on the CPU even where there is a GPU"
flag dry-run "print every command and stop"
parse_options "$@"

[ "$dry_run" = true ] || setup_venv quickstart
device=()
[ "$cpu" = false ] || device=(--cpu)
[ "$jobs" = 1 ] || export OMP_NUM_THREADS=1

# train_and_score SCHEME LAYERS SEED
train_and_score() {
    local folder=$save_dir/$1-${2}l-${2}l-seed$3 dry=() scripts=$root/scripts/multi30k
    [ "$dry_run" = true ] || [ ! -e "$folder/evaluation.json" ] || return 0
    [ "$dry_run" = false ] || dry=(--dry-run)
    bash "$scripts/train.sh" --data-dir "$data_dir" --save-dir "$folder" --arch "$1_transformer" \
        --encoder-layers "$2" --decoder-layers "$2" --seed "$3" --updates "$updates" \
        --max-tokens "$max_tokens" "${device[@]}" "${dry[@]}" \
        -- --validate-interval-updates 100 "${extra[@]}" || return 1
    [ "$dry_run" = true ] ||
        bash "$scripts/evaluate.sh" --data-dir "$data_dir" --save-dir "$folder" "${device[@]}"
}

# The same beside other runs, with its output in a file.
train_and_score_quietly() {
    local log=$save_dir/$1-${2}l-${2}l-seed$3.log
    mkdir -p "$save_dir"
    train_and_score "$@" >"$log" 2>&1 || say "$1 ${2}L-${2}L, seed $3 failed, see $log"
}

whole jobs updates max-tokens
check_seeds
start=$SECONDS
for seed in $seeds; do
    for layers in $depths; do
        for scheme in $schemes; do
            [ "$dry_run" = true ] || say "$scheme ${layers}L-${layers}L, seed $seed"
            if [ "$jobs" = 1 ] || [ "$dry_run" = true ]; then
                train_and_score "$scheme" "$layers" "$seed" || say "failed, see above"
                continue
            fi
            [ "$(jobs -r | wc -l)" -lt "$jobs" ] || wait -n
            train_and_score_quietly "$scheme" "$layers" "$seed" &
        done
    done
done
wait
[ "$dry_run" = false ] || exit 0
say "Took $((SECONDS - start)) s"
admin-fairseq results "$save_dir" --format markdown
