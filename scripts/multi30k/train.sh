#!/usr/bin/env bash
# Train on Multi30k De-En with fairseq-train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Train on Multi30k De-En (scripts/multi30k/prepare.sh first). Words after -- go to
fairseq-train as they are. Run again, it resumes from the last checkpoint."
option data-dir "$root/data/multi30k" "where prepare.sh wrote"
option save-dir "" "checkpoints and log (default: runs/multi30k/ARCH[-SCHEME]-LAYERS-SEED)"
option arch admin_transformer "architecture"
option init-type "" "scheme (default: the architecture's; admin-fairseq schemes lists them)"
option encoder-layers 6 "encoder depth"
option decoder-layers 6 "decoder depth"
training_options
parse_options "$@"

[ "$dry_run" = true ] || [ -d "$data_dir/bin" ] || fail "$data_dir/bin is missing; run scripts/multi30k/prepare.sh first"
: "${save_dir:=$root/runs/multi30k/$arch${init_type:+-$init_type}-${encoder_layers}l-${decoder_layers}l-$seed}"
[ "$dry_run" = true ] || setup_venv quickstart

scheme=()
[ -z "$init_type" ] || scheme=(--init-type "$init_type")
choose_schedule "$warmup_updates"
choose_device "$precision" "$cpu"

command=(
    fairseq-train "$data_dir/bin" --user-dir admin_fairseq --task translation
    --source-lang de --target-lang en --save-dir "$save_dir"
    --arch "$arch" --encoder-layers "$encoder_layers" --decoder-layers "$decoder_layers"
    --encoder-embed-dim "$dim" --encoder-ffn-embed-dim "$ffn_dim"
    --encoder-attention-heads "$heads" --share-all-embeddings --dropout "$dropout"
    --optimizer "$optimizer" --adam-betas "(0.9, 0.98)" --clip-norm 0.0 --weight-decay 1e-4
    --lr "$lr" "${schedule[@]}" --max-tokens "$max_tokens" --max-update "$updates"
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --no-epoch-checkpoints --log-format simple --log-interval 50 --seed "$seed"
    "${device[@]}" "${scheme[@]}" "${extra[@]}"
)
run_training "$save_dir" "${command[@]}"
