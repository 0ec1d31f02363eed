#!/usr/bin/env bash
# Train a language model on the English side of Multi30k and print its perplexity.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train a decoder-only language model on Multi30k's English sentences
(scripts/multi30k/prepare.sh first) and print the test set's perplexity. Words after -- go to
fairseq-train as they are. Run again, it resumes from the last checkpoint."
option data-dir "$root/data/multi30k" "where prepare.sh wrote"
option save-dir "" "checkpoints and log (default: runs/multi30k/ARCH[-SCHEME]-LAYERS-SEED)"
option arch admin_transformer_lm "architecture"
option init-type "" "scheme (default: the architecture's; admin-fairseq schemes lists them)"
option layers 6 "depth"
training_options
parse_options "$@"

[ "$dry_run" = true ] || [ -d "$data_dir/bin" ] || fail "$data_dir/bin is missing; run scripts/multi30k/prepare.sh first"
: "${save_dir:=$root/runs/multi30k/$arch${init_type:+-$init_type}-${layers}l-$seed}"
[ "$dry_run" = true ] || setup_venv quickstart

# The pieces are those of the translation data; whole sentences fill a sample of 128 tokens.
if [ "$dry_run" = false ] && [ ! -d "$data_dir/lm-bin" ]; then
    say "Binarising the English sentences"
    part=$(mktemp -d "$data_dir/lm-bin.XXXXXX")
    fairseq-preprocess --only-source --srcdict "$data_dir/bin/dict.en.txt" \
        --trainpref "$data_dir/train.sp.en" --validpref "$data_dir/valid.sp.en" \
        --testpref "$data_dir/test.sp.en" --destdir "$part" --workers 2 \
        >"$data_dir/preprocess-lm.log" 2>&1 || {
        rm -rf "$part"
        tail -n 3 "$data_dir/preprocess-lm.log" >&2
        fail "fairseq-preprocess failed, see $data_dir/preprocess-lm.log"
    }
    chmod 755 "$part"
    mv -T "$part" "$data_dir/lm-bin" 2>/dev/null || rm -rf "$part" # another run was faster
fi

scheme=()
[ -z "$init_type" ] || scheme=(--init-type "$init_type")
choose_schedule "$warmup_updates"
choose_device "$precision" "$cpu"
samples=(--sample-break-mode complete --tokens-per-sample 128)

command=(
    fairseq-train "$data_dir/lm-bin" --user-dir admin_fairseq --task language_modeling
    "${samples[@]}" --save-dir "$save_dir"
    --arch "$arch" --decoder-layers "$layers" --decoder-embed-dim "$dim"
    --decoder-ffn-embed-dim "$ffn_dim" --decoder-attention-heads "$heads"
    --share-decoder-input-output-embed --dropout "$dropout"
    --optimizer "$optimizer" --adam-betas "(0.9, 0.98)" --clip-norm 0.0 --weight-decay 1e-4
    --lr "$lr" "${schedule[@]}" --max-tokens "$max_tokens" --max-update "$updates"
    --criterion cross_entropy
    --no-epoch-checkpoints --log-format simple --log-interval 50 --seed "$seed"
    "${device[@]}" "${scheme[@]}" "${extra[@]}"
)
run_training "$save_dir" "${command[@]}"
[ "$dry_run" = false ] || exit 0

say "Perplexity of the test set"
fairseq-eval-lm "$data_dir/lm-bin" --user-dir admin_fairseq --gen-subset test \
    --path "$save_dir/checkpoint_best.pt" "${samples[@]}" --max-tokens 4096 \
    --required-batch-size-multiple 1 "${device[@]}" >"$save_dir/test.log" 2>&1 || {
    tail -n 3 "$save_dir/test.log" >&2
    fail "fairseq-eval-lm failed, see $save_dir/test.log"
}
grep -o 'Loss (base 2).*' "$save_dir/test.log"
