#!/usr/bin/env bash
# Train every scheme in the same way on Multi30k De-En and print a table.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train every scheme of admin-fairseq schemes with the settings of train.sh, one after the
other, and print their losses as a Markdown table (scripts/multi30k/prepare.sh first). Words after
-- go to train.sh as they are, which has the other options. Run again, it goes on where it stopped."
option data-dir "$root/data/multi30k" "where prepare.sh wrote"
option save-dir "$root/runs/multi30k/schemes" "one folder for each scheme is made there"
option encoder-layers 18 "encoder depth"
option decoder-layers 18 "decoder depth"
option max-tokens 1024 "tokens in a batch"
option updates 600 "number of updates"
option warmup-updates 400 "length of the linear warm-up, and of BranchNorm's growth"
flag cpu "train on the CPU even where there is a GPU"
parse_options "$@"

setup_venv quickstart
device=()
[ "$cpu" = false ] || device=(--cpu)

# run NAME ARCH [FAIRSEQ OPTIONS...]
run() {
    local name=$1 arch=$2
    shift 2
    ! grep -Eqs "num_updates[= ]$updates\b" "$save_dir/$name/train.log" || return 0
    say "$name"
    bash "$root/scripts/multi30k/train.sh" --data-dir "$data_dir" --save-dir "$save_dir/$name" \
        --encoder-layers "$encoder_layers" --decoder-layers "$decoder_layers" --arch "$arch" \
        --max-tokens "$max_tokens" --updates "$updates" --warmup-updates "$warmup_updates" \
        "${device[@]}" "${extra[@]}" -- "$@" || say "$name failed, see above"
}

run postln postln_transformer
run preln preln_transformer
for scheme in $(scheme_names); do
    case $scheme in
        default | adaptive | adaptive-profiling) ;; # Post-LN and Pre-LN above; adaptive-auto below
        branchnorm) run "$scheme" admin_transformer --init-type "$scheme" --branchnorm-updates "$warmup_updates" ;;
        *) run "$scheme" admin_transformer --init-type "$scheme" ;;
    esac
done

say "Every scheme"
admin-fairseq results "$save_dir" --format markdown --sort "training loss"
