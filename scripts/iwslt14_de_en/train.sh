#!/usr/bin/env bash
# Train on IWSLT14 De-En as published.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on IWSLT14 De-En (scripts/iwslt14_de_en/prepare.sh first) with the published settings:
512-1024-4, 4096 tokens on one GPU. --recipe admin is Table 3 of the Admin paper, no-warmup its sweep
(-- --lr 1e-4 ... 5e-4 --adam-betas '(0.9, 0.99)', 0.995, 0.999), tfixup T-Fixup's, which wants
prepare.sh --separate-dictionaries. Words after -- go to fairseq-train as they are. Run again, it
resumes from the last checkpoint."
run_options iwslt14_de_en "1111 2222 3333 4444 5555"
option recipe "" "admin, no-warmup or tfixup (default: admin; tfixup with --scheme tfixup)"
train_options
parse_options "$@"

radam=(--share-all-embeddings --optimizer radam --weight-decay 1e-4 --clip-norm 0.0 --lr 7e-4
    --dropout 0.3 --attention-dropout 0.1 --activation-dropout 0.1
    --max-update 100000 --max-epoch 90)
tokens=4096
chosen=$recipe
[ -n "$chosen" ] || [ "$scheme" != tfixup ] || chosen=tfixup
case ${chosen:-admin} in
    admin)
        settings=("${radam[@]}" --adam-betas "(0.9, 0.98)"
            --lr-scheduler inverse_sqrt --warmup-updates 6000 --warmup-init-lr 1e-7)
        ;;
    no-warmup)
        settings=("${radam[@]}" --adam-betas "(0.9, 0.99)" --lr-scheduler linear --warmup-updates 1)
        ;;
    tfixup)
        tokens=4000
        settings=(--share-decoder-input-output-embed --optimizer adam --adam-betas "(0.9, 0.98)"
            --weight-decay 1e-4 --clip-norm 25.0 --lr 5e-4 --lr-scheduler inverse_sqrt_nowarmup
            --decay-period 4000 --dropout 0.5 --max-epoch 300)
        ;;
    *) fail "--recipe $recipe: use admin, no-warmup or tfixup" ;;
esac
train_published _iwslt_de_en "$tokens" 1 1 --source-lang de --target-lang en "${settings[@]}"
