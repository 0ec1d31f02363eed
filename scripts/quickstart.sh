#!/usr/bin/env bash
# Install the package, make a corpus, profile and train an Admin transformer, translate, print BLEU.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

description="Install into .venv, make a small German-English corpus of number words, dates, times
and prices, profile and train an Admin transformer on it, translate its test set, print BLEU.
On a machine without a GPU, training and translating take some minutes on 2 cores."
option output-dir "$root/runs/quickstart" "folder for the corpus, the model and the translations"
option layers 6 "encoder and decoder layers"
option updates 800 "number of updates"
option lr 2e-3 "peak learning rate"
option seed 1 "random seed"
flag cpu "use the CPU even if there is a GPU"
parse_options "$@"

setup_venv quickstart
choose_device "$cpu" fp16
corpus=$output_dir/corpus
run=$output_dir/model-${layers}l-${updates}-${lr}-${seed}

if [ ! -e "$corpus/bin/done" ]; then
    say "Making the corpus"
    python "$root/scripts/quickstart/make_corpus.py" "$corpus"
    binarise "$corpus" 400 bpe
    touch "$corpus/bin/done"
fi
paste -d'\n' <(head -n 3 "$corpus/test.de") <(head -n 3 "$corpus/test.en")

# Train the model, show the progress, and write all output of fairseq-train to a file:
# train [FAIRSEQ OPTIONS...]
train() {
    local output=$run/output
    mkdir -p "$run"
    fairseq-train "$corpus/bin" --user-dir admin_fairseq --save-dir "$run" \
        --arch admin_transformer --encoder-layers "$layers" --decoder-layers "$layers" \
        --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 \
        --share-all-embeddings --dropout 0.0 \
        --optimizer radam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 \
        --lr "$lr" --lr-scheduler linear --warmup-updates 100 --max-update "$updates" \
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --max-tokens 2048 --disable-validation --no-epoch-checkpoints --num-workers 0 \
        --log-format simple --log-interval 50 --seed "$seed" "${device[@]}" "$@" 2>&1 |
        tee "$output" | { grep --line-buffered -E 'profile|train_inner|Loaded|done training' || true; } |
        sed --unbuffered -E 's/^(.{160}).*/\1/' || {
        tail -n 5 "$output" >&2
        fail "training failed, see $output"
    }
}

start=$SECONDS
say "Profiling: one batch, no update"
train --init-type adaptive-profiling
say "Training a ${layers}L-${layers}L Admin transformer for $updates updates"
train --init-type adaptive
say "Translating the test set"
generate "$corpus/bin" "$run/checkpoint_last.pt" "$run/test" --beam 4 --max-tokens 4000 \
    --num-workers 0 "${device[@]}"
paste -d'\n' <(head -n 3 "$corpus/test.de") <(head -n 3 "$run/test.hyp")
say "Profiling, training and translating took $((SECONDS - start)) s"
bleu "$run/test.hyp" "$corpus/test.en"
