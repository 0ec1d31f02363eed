#!/usr/bin/env bash
# Train on WMT17 En-De, as admin-torch compares Admin, DeepNet and itself.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on WMT17 En-De (scripts/wmt17_en_de/prepare.sh first) for 45 epochs, with the
settings of admin-torch's comparison of the schemes admin, deepnet and admin-torch: 512-2048-8, 4096
tokens on each of 8 GPUs (--batches 8) or the huge batch, 2048 on each of 8, 32 times an update
(--batches 128); with other numbers of GPUs, --update-freq keeps the batch. The published depth is
100 in both stacks. As in the published commands, --scheme admin-torch has --omega-trainable and
--share-all-embeddings, the others have neither. --scheme tfixup takes T-Fixup's settings of IWSLT14
with dropout 0.1; these, its batches of 4096 tokens and its 45 epochs are our choice. Words after --
go to fairseq-train as they are. Run again, it resumes from the last checkpoint."
run_options wmt17_en_de 1111
option batches 8 "batches of 4096 tokens that an update is worth, 8 or 128"
train_options
parse_options "$@"

case $batches:$scheme in
    8:tfixup | 128:tfixup)
        batch=(4096 "$((batches / 8))" 8)
        settings=(--share-decoder-input-output-embed --optimizer adam --adam-betas "(0.9, 0.98)"
            --weight-decay 1e-4 --clip-norm 25.0 --lr 5e-4 --lr-scheduler inverse_sqrt_nowarmup
            --decay-period 4000 --dropout 0.1)
        ;;
    8:*) admin_torch_recipe regular ;;
    128:*) admin_torch_recipe huge ;;
    *) fail "--batches $batches: use 8 or 128" ;;
esac
recipe=$batches
train_published _wmt_en_de "${batch[@]}" --source-lang en --target-lang de "${settings[@]}" \
    --max-epoch 45
