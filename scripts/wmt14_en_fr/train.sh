#!/usr/bin/env bash
# Train on WMT14 En-Fr as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on WMT14 En-Fr (scripts/wmt14_en_fr/prepare.sh first) with the settings of the Admin
release: 512-2048-8, 8000 tokens, 10 batches in an update, on each of 8 GPUs; from 60 layers on 5000
tokens, 16 batches, 16 GPUs; with other numbers of GPUs, --update-freq keeps the batch. Words after --
go to fairseq-train as they are. Run again, it resumes from the last checkpoint."
run_options wmt14_en_fr 1111
train_options
parse_options "$@"

whole encoder-layers
batch=(8000 10 8)
[ "$encoder_layers" -lt 60 ] || batch=(5000 16 16)
train_published _wmt_en_de "${batch[@]}" --source-lang en --target-lang fr --share-all-embeddings \
    --optimizer radam --adam-betas "(0.9, 0.98)" --weight-decay 0.0 --clip-norm 0.0 \
    --lr 7e-4 --lr-scheduler inverse_sqrt --warmup-updates 8000 --warmup-init-lr 1e-7 \
    --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1 --max-epoch 50
