#!/usr/bin/env bash
# Train on WMT14 En-De as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on WMT14 En-De (scripts/wmt14_en_de/prepare.sh first) with the settings of the Admin
release: 512-2048-8, 8192 tokens on each of 4 GPUs, from 100 layers on 4096 on each of 8; with other
numbers of GPUs, --update-freq keeps the batch. Words after -- go to fairseq-train as they are. Run
again, it resumes from the last checkpoint."
run_options wmt14_en_de 1111
train_options
parse_options "$@"

whole encoder-layers
batch=(8192 1 4)
[ "$encoder_layers" -lt 100 ] || batch=(4096 1 8)
train_published _wmt_en_de "${batch[@]}" --source-lang en --target-lang de --share-all-embeddings \
    --optimizer radam --adam-betas "(0.9, 0.98)" --weight-decay 0.0 --clip-norm 0.0 \
    --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 8000 --warmup-init-lr 1e-7 \
    --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1 \
    --max-update 500000 --max-epoch 100
