#!/usr/bin/env bash
# Train on WMT14 En-De as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on WMT14 En-De (scripts/wmt14_en_de/prepare.sh first) with the settings of the
Admin release: 512-2048-8, 8192 tokens on each of 4 GPUs, from 100 layers on 4096 on each of 8.
--scheme admin-torch takes those of its own scripts, with ω trained: 4096 tokens on each of 8 GPUs,
from 100 layers on its huge batch (2048 on each of 8, 32 times an update) for 40 epochs. With other
numbers of GPUs, --update-freq keeps the batch. Words after -- go to fairseq-train as they are. Run
again, it resumes from the last checkpoint."
run_options wmt14_en_de 1111
train_options
parse_options "$@"

whole encoder-layers
epochs=100
if [ "$scheme" != admin-torch ]; then
    batch=(8192 1 4)
    [ "$encoder_layers" -lt 100 ] || batch=(4096 1 8)
    settings=(--share-all-embeddings --optimizer radam --adam-betas "(0.9, 0.98)" --weight-decay 0.0
        --clip-norm 0.0 --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 8000
        --warmup-init-lr 1e-7 --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1
        --max-update 500000)
elif [ "$encoder_layers" -lt 100 ]; then
    admin_torch_recipe regular
else
    admin_torch_recipe huge
    epochs=40
fi
train_published _wmt_en_de "${batch[@]}" --source-lang en --target-lang de "${settings[@]}" \
    --max-epoch "$epochs"
