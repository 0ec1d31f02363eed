#!/usr/bin/env bash
# Train a language model on the English sentences of Multi30k and print its perplexity.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train a decoder-only language model on Multi30k's English sentences (admin-fairseq
prepare multi30k first) and print the test set's perplexity. Arguments after -- are passed on to
fairseq-train. If the script is run again, it resumes from the last checkpoint."
option data-dir "$root/data/multi30k" "folder that prepare has written"
option save-dir "" "checkpoints and log (default: runs/multi30k/ARCH-LAYERS-SEED)"
option arch admin_transformer_lm "architecture"
option layers 6 "depth"
option max-tokens 2048 "tokens in a batch"
option seed 1 "random seed"
flag cpu "use the CPU even if there is a GPU"
parse_options "$@"

[ -e "$data_dir/prepared.json" ] || fail "$data_dir is not prepared; run scripts/multi30k/prepare.sh first"
setup_venv quickstart
: "${save_dir:=$root/runs/multi30k/$arch-${layers}l-$seed}"
lm_bin=$data_dir/lm-bin

# Use the subword pieces and the dictionary of the translation data.
if [ ! -d "$lm_bin" ]; then
    say "Binarising the English sentences"
    part=$(mktemp -d "$lm_bin.XXXXXX")
    quietly "$data_dir/preprocess-lm.log" fairseq-preprocess --only-source \
        --srcdict "$data_dir/bin/dict.en.txt" --destdir "$part" --workers 2 \
        --trainpref "$data_dir/train.en" --validpref "$data_dir/valid.en" --testpref "$data_dir/test.en"
    chmod 755 "$part"
    mv -T "$part" "$lm_bin" 2>/dev/null || rm -rf "$part" # made by another run meanwhile
fi

choose_device "$cpu" fp32
# samples of whole sentences, up to 128 tokens
samples=(--sample-break-mode complete --tokens-per-sample 128)
fairseq-train "$lm_bin" --user-dir admin_fairseq --task language_modeling "${samples[@]}" \
    --save-dir "$save_dir" --arch "$arch" --decoder-layers "$layers" --decoder-embed-dim 128 \
    --decoder-ffn-embed-dim 256 --decoder-attention-heads 4 --share-decoder-input-output-embed \
    --dropout 0.1 --optimizer radam --adam-betas "(0.9, 0.98)" --clip-norm 0.0 --weight-decay 1e-4 \
    --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 400 --warmup-init-lr 1e-7 \
    --max-tokens "$max_tokens" --max-update 600 --criterion cross_entropy --no-epoch-checkpoints \
    --log-format simple --log-interval 50 --seed "$seed" "${device[@]}" "${extra[@]}"

say "Perplexity of the test set"
quietly "$save_dir/test.log" fairseq-eval-lm "$lm_bin" --user-dir admin_fairseq --gen-subset test \
    --path "$save_dir/checkpoint_best.pt" "${samples[@]}" --max-tokens 4096 \
    --required-batch-size-multiple 1 "${device[@]}"
grep -o 'Loss (base 2).*' "$save_dir/test.log"
