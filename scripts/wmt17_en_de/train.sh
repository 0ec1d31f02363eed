#!/usr/bin/env bash
# Train on WMT17 En-De, with the batches that admin-torch and T-Fixup report.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on WMT17 En-De (scripts/wmt17_en_de/prepare.sh first): 512-2048-8, with batches of 8 times
4096 tokens (--batches 8) or 128 times (--batches 128), shared by the GPUs that there are. Published are
these batches; the other settings are those of WMT14 En-De in the Admin release, and for --scheme tfixup
those of T-Fixup with dropout 0.1: our choice. Words after -- go to fairseq-train as they are. Run again,
it resumes from the last checkpoint."
run_options wmt17_en_de 1111
option batches 8 "batches of 4096 tokens in an update"
train_options
parse_options "$@"

whole batches
settings=(--share-all-embeddings --optimizer radam --adam-betas "(0.9, 0.98)" --weight-decay 0.0
    --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 8000 --warmup-init-lr 1e-7
    --attention-dropout 0.1 --activation-dropout 0.1)
[ "$scheme" != tfixup ] ||
    settings=(--share-decoder-input-output-embed --optimizer adam --adam-betas "(0.9, 0.98)"
        --weight-decay 1e-4 --lr 5e-4 --lr-scheduler inverse_sqrt_nowarmup --decay-period 4000)
recipe=$batches
train_published _wmt_en_de 4096 "$batches" 1 --source-lang en --target-lang de --clip-norm 0.0 \
    --dropout 0.1 "${settings[@]}" --max-update 500000 --max-epoch 100
