# shellcheck shell=bash
# What the scripts share: source it first. Options are declared, then parsed:
#
#   option arch admin_transformer "architecture"      # --arch VALUE -> $arch
#   flag cpu "train on the CPU"                       # --cpu        -> $cpu is true
#   parse_options "$@"                                # words after -- go to the array extra

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=$(basename "$0")
venv=$root/.venv
option_help=""
option_names=" "
flag_names=" "
extra=()

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s: error: %s\n' "$script" "$*" >&2
    exit 1
}

option() {
    option_names+="$1 "
    printf -v "${1//-/_}" '%s' "$2"
    option_help+=$(printf '\n  --%-24s %s%s' "$1 VALUE" "$3" "${2:+ (default: $2)}")
}

flag() {
    flag_names+="$1 "
    printf -v "${1//-/_}" false
    option_help+=$(printf '\n  --%-24s %s' "$1" "$2")
}

parse_options() {
    while [ $# -gt 0 ]; do
        local name=${1#--}
        case $1 in
            -h | --help)
                printf '%s\n\nOptions:%s\n' "$description" "$option_help"
                exit 0
                ;;
            --)
                shift
                extra=("$@")
                return
                ;;
            --*)
                if [[ $flag_names == *" $name "* ]]; then
                    printf -v "${name//-/_}" true
                    shift
                    continue
                fi
                [[ $option_names == *" $name "* ]] || fail "unknown option $1 (see --help)"
                [ $# -gt 1 ] || fail "$1 wants a value"
                printf -v "${name//-/_}" '%s' "$2"
                shift 2
                ;;
            *) fail "unexpected word '$1' (see --help)" ;;
        esac
    done
}

# The options of every script that trains a small model.
training_options() {
    option dim 128 "embedding dimension"
    option ffn-dim 256 "FFN dimension"
    option heads 4 "attention heads"
    option updates 600 "number of updates"
    option lr 1e-3 "peak learning rate"
    option warmup-updates 400 "length of the linear warm-up; 0 takes T-Fixup's schedule, which has none"
    option max-tokens 2048 "tokens in a batch, on each worker"
    option dropout 0.1 "dropout"
    option optimizer radam "radam, adam, adam_fused or novograd"
    option seed 1 "random seed"
    option precision fp32 "fp32, fp16 or bf16 (on a GPU)"
    flag cpu "train on the CPU even where there is a GPU"
    flag dry-run "print the command and stop"
}

# Fail unless the options of these names are whole numbers from 1 on: whole NAME...
whole() {
    local name
    for name in "$@"; do
        local variable=${name//-/_}
        [[ ${!variable} =~ ^[1-9][0-9]*$ ]] || fail "--$name ${!variable}: use a whole number from 1 on"
    done
}

# Fail unless --seeds holds at least one number.
check_seeds() {
    [[ $seeds =~ ^\ *[0-9]+(\ +[0-9]+)*\ *$ ]] || fail "--seeds '$seeds': use numbers with spaces between them"
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# The Python to build .venv with: $PYTHON, or the reference version, or whatever is supported.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.10 python3.9; do
        case $(python_version "$candidate") in
            3.9 | 3.10 | 3.11 | 3.12)
                printf '%s\n' "$candidate"
                return
                ;;
        esac
        [ -z "${PYTHON:-}" ] || break
    done
    fail "Python 3.9 to 3.12 is needed; ${PYTHON:-python3} is $(python_version "${PYTHON:-python3}" || echo missing)"
}

# Make .venv with the given extras, unless it is there already, and put it on PATH. With NO_INSTALL
# set, do nothing: the commands that are on PATH already serve.
setup_venv() {
    local extras=$1 python stamp
    [ -z "${NO_INSTALL:-}" ] || return 0
    export PATH=$venv/bin:$PATH
    stamp=$venv/.installed-$extras-$(cat "$root/setup.py" "$root/constraints.txt" | cksum | cut -d' ' -f1)
    [ -e "$stamp" ] && return
    exec 9>"$root/.venv.lock"
    flock 9 # two scripts at once would install into one another
    [ -e "$stamp" ] && return
    python=$(find_python)
    say "Installing into $venv (a first time takes some minutes: fairseq is built from source)"
    [ -e "$venv/bin/python" ] || "$python" -m venv "$venv"
    if [ "$(python_version "$venv/bin/python")" = 3.11 ]; then
        # the reference environment; builds take their torch from it too. An address, since pip
        # would split a path with spaces.
        export PIP_CONSTRAINT=file://${root// /%20}/constraints.txt
        export PIP_BUILD_CONSTRAINT=$PIP_CONSTRAINT
    else
        say "Not Python 3.11: installing newest versions, which may differ from those we tested"
        "$venv/bin/pip" install --quiet "pip<24.1" "setuptools<70" # fairseq 0.12.2 needs them
    fi
    "$venv/bin/pip" install --quiet torch numpy
    "$venv/bin/pip" install --quiet --editable "${root}[$extras]"
    # --user-dir admin_fairseq is looked for beside fairseq, where an editable install puts nothing
    ln -sfn "$root/admin_fairseq" "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/admin_fairseq"
    touch "$stamp"
    exec 9>&-
}

have_gpu() { [ "$(python -c 'import torch; print(torch.cuda.is_available())')" = True ]; }

# Set the array schedule to fairseq's words for one: choose_schedule WARMUP_UPDATES
choose_schedule() {
    schedule=(--lr-scheduler inverse_sqrt --warmup-updates "$1" --warmup-init-lr 1e-7)
    [ "$1" != 0 ] || schedule=(--lr-scheduler inverse_sqrt_nowarmup)
}

# Set the array device to fairseq's words for device and precision: choose_device PRECISION CPU.
# Precision auto is fp16 on a GPU, fp32 on a CPU.
choose_device() {
    local precision=$1 cpu=$2
    # a --dry-run may come before anything is installed
    [ "$cpu" = true ] || python -c 'import torch' 2>/dev/null || cpu=true
    [[ $precision =~ ^(auto|fp32|fp16|bf16)$ ]] || fail "--precision $precision: use fp32, fp16 or bf16"
    device=()
    if [ "$cpu" = true ] || ! have_gpu; then
        device+=(--cpu)
        [ "$precision" != fp16 ] || fail "--precision fp16 needs a GPU"
        [ "$precision" != auto ] || precision=fp32
    fi
    [ "$precision" != auto ] || precision=fp16
    [ "$precision" = fp32 ] || device+=("--$precision")
    # NovoGrad takes each weight by itself; fairseq would make one of all
    [ "$precision" != fp16 ] || [ "${optimizer:-}" != novograd ] || device+=(--fp16-no-flatten-grads)
}

# Run a training command, or with --dry-run print it: run_training SAVE_DIR COMMAND...
# Our models write SAVE_DIR/train.log themselves. Run again, fairseq resumes.
run_training() {
    local save_dir=$1 settings
    shift
    if [ "$dry_run" = true ]; then
        print_command "$@"
        return
    fi
    mkdir -p "$save_dir"
    # a folder holds one run: going on with other settings would pass the old checkpoint for a new
    # one. How long it is and how many workers share the work may change.
    settings=$(print_command "$@" | sed -E -e 's/^.*fairseq-train /fairseq-train /' \
        -e 's/ --(max-update|max-epoch|distributed-world-size|distributed-port|update-freq) [0-9]+//g')
    if [ -e "$save_dir/settings" ] && [ "$(cat "$save_dir/settings")" != "$settings" ]; then
        fail "$save_dir holds a run with other settings; choose another --save-dir"
    fi
    printf '%s\n' "$settings" >"$save_dir/settings.$$"
    mv "$save_dir/settings.$$" "$save_dir/settings" # other nodes may be reading it
    "$@" 2>&1
}

print_command() {
    printf '%q ' "$@"
    echo
}

# Run a command, or with --dry-run print it.
run_or_print() {
    if [ "${dry_run:-false}" = true ]; then
        print_command "$@"
    else
        "$@"
    fi
}

# ---- runs as published: scripts/DATASET/{prepare,train,evaluate}.sh ----

# The options that name runs, in train.sh and evaluate.sh alike: run_options DATASET SEEDS
run_options() {
    dataset=$1
    option data-dir "$root/data/$dataset" "where prepare.sh wrote"
    option save-dir "$root/runs/$dataset" "a folder for each run is made there"
    option scheme admin "admin, postln, preln, postln-preln (Post-LN encoder, Pre-LN decoder) or any other scheme of admin-fairseq schemes"
    option encoder-layers 6 "encoder depth"
    option decoder-layers 6 "decoder depth"
    option seeds "$2" "random seeds, one run for each"
    flag cpu "stay on the CPU even where there is a GPU"
    flag dry-run "print every command and stop"
}

train_options() {
    option gpus "" "GPUs on each node (default: all)"
    option nodes 1 "nodes"
    option launcher torchrun "what starts several nodes: torchrun (start this script on each) or slurm (start it once)"
    option endpoint "" "for torchrun: HOST:PORT of the first node"
    option update-freq "" "batches in an update (default: what makes the published batch)"
    option precision auto "auto (fp16 on a GPU), fp32, fp16 or bf16"
}

# What --fp16 comes with in the Admin release.
half=(--fp16-scale-window 256 --threshold-loss-scale 0.03125)

# Set batch, settings and half to what admin-torch's example/train_wmt_en-de.sh has, or with huge
# example/train_wmt_en-de_huge_batch.sh: admin_torch_recipe regular|huge
admin_torch_recipe() {
    # shellcheck disable=SC2034 # batch is train.sh's
    case $1 in
        regular)
            batch=(4096 1 8)
            settings=(--lr 1e-3 --warmup-updates 8000 --weight-decay 0.0
                --dropout 0.1 --attention-dropout 0.1 --activation-dropout 0.1 --max-update 1000000)
            ;;
        huge)
            batch=(2048 32 8)
            settings=(--lr 1.5e-3 --warmup-updates 4000 --weight-decay 1e-4
                --dropout 0.4 --attention-dropout 0.0 --activation-dropout 0.0 --max-update 100000)
            ;;
    esac
    settings+=(--optimizer adam --adam-betas "(0.9, 0.98)" --clip-norm 0.0
        --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7)
    # their fourth argument, whose place --init-type takes in the commands for other schemes
    [ "$scheme" != admin-torch ] || settings+=(--share-all-embeddings --omega-trainable)
    half=(--memory-efficient-fp16 --fp16-scale-window 256 --threshold-loss-scale 0.0625)
}

# The folder of a run: run_dir SEED
run_dir() { printf '%s\n' "$save_dir/$scheme${recipe:+-$recipe}-${encoder_layers}l-${decoder_layers}l-seed$1"; }

# Set the array architecture to fairseq's words for --scheme: choose_architecture SIZE
choose_architecture() {
    local size=$1
    case $scheme in
        postln-preln) architecture=(--arch "postln_transformer$size" --decoder-normalize-before) ;;
        admin | postln | preln | tfixup | fixup | rezero | subln | b2t | dlcl)
            architecture=(--arch "${scheme}_transformer$size")
            ;;
        *) architecture=(--arch "admin_transformer$size" --init-type "$scheme") ;;
    esac
    architecture+=(--encoder-layers "$encoder_layers" --decoder-layers "$decoder_layers")
}

# Set the array launch to what starts the workers, and update_freq to what makes the published
# batch with them: choose_workers PUBLISHED_UPDATE_FREQ PUBLISHED_GPUS
choose_workers() {
    local batches=$(($1 * $2)) workers
    whole nodes
    if [ "$cpu" = true ]; then
        workers=1
    else
        [ -n "$gpus" ] || gpus=$(visible_gpus)
        whole gpus
        workers=$((gpus * nodes))
    fi
    if [ -z "$update_freq" ]; then
        [ $((batches % workers)) = 0 ] ||
            fail "the published update has $batches batches, which $workers GPUs cannot share; say --update-freq"
        update_freq=$((batches / workers))
    fi
    whole update-freq
    [ "$cpu" = false ] || [ "$precision" != fp16 ] || fail "--precision fp16 needs a GPU"
    device=()
    [ "$cpu" = false ] || device=(--cpu)
    [ "$cpu" = true ] || [ "$precision" != auto ] || precision=fp16
    case $precision in
        fp16) device+=(--fp16 "${half[@]}") ;;
        bf16) device+=(--bf16) ;;
        auto | fp32) ;;
        *) fail "--precision $precision: use fp32, fp16 or bf16" ;;
    esac
    device+=(--distributed-world-size "$workers")
    launch=(fairseq-train)
    [ "$nodes" != 1 ] || return 0
    case $launcher in
        torchrun)
            [ -n "$endpoint" ] || fail "--endpoint HOST:PORT of the first node is needed (see --help)"
            launch=(torchrun --nnodes "$nodes" --nproc_per_node "$gpus" --rdzv_backend c10d
                --rdzv_endpoint "$endpoint" "$(command -v fairseq-train || echo fairseq-train)")
            ;;
        slurm)
            launch=(srun --nodes "$nodes" --ntasks-per-node "$gpus" --gpus-per-node "$gpus" fairseq-train)
            device+=(--distributed-port 29500)
            ;;
        *) fail "--launcher $launcher: use torchrun or slurm" ;;
    esac
}

visible_gpus() {
    local count
    count=$(python -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) || count=0
    [ "$count" != 0 ] || fail "no GPU is to be seen; say --gpus N, or --cpu"
    printf '%s\n' "$count"
}

# Train with every seed: train_published SIZE MAX_TOKENS UPDATE_FREQ GPUS [FAIRSEQ OPTIONS...]
# Admin's runs profile their first batch, write profile.json and go on; run again, all resume.
train_published() {
    local size=$1 max_tokens=$2 published=("$3" "$4") seed run
    shift 4
    [ "$dry_run" = true ] || [ -d "$data_dir/bin" ] ||
        fail "$data_dir/bin is missing; run scripts/$dataset/prepare.sh first"
    whole encoder-layers decoder-layers
    check_seeds
    [ "$dry_run" = true ] || setup_venv prepare
    choose_architecture "$size"
    choose_workers "${published[@]}"
    for seed in $seeds; do
        run=$(run_dir "$seed")
        [ "$dry_run" = true ] || say "Training $run"
        run_training "$run" "${launch[@]}" "$data_dir/bin" --user-dir admin_fairseq \
            --task translation "${architecture[@]}" --save-dir "$run" --seed "$seed" \
            --max-tokens "$max_tokens" --update-freq "$update_freq" \
            --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
            --keep-last-epochs 10 --log-format simple --log-interval 100 \
            "${device[@]}" "$@" "${extra[@]}"
    done
}

evaluate_options() {
    local recipes=" (default: the recipe's)" # of those that are empty
    option average "$1" "epoch checkpoints to average, the last ones"
    option last-epoch "$2" "none after this epoch$([ -n "$2" ] || echo "$recipes")"
    option beam "$3" "beam width$([ -n "$3" ] || echo "$recipes")"
    option lenpen "$4" "length penalty$([ -n "$4" ] || echo "$recipes")"
    option max-tokens 4096 "tokens in a batch"
    option precision auto "auto (fp16 on a GPU), fp32, fp16 or bf16"
}

# What --remove-bpe wants, from prepared.json.
remove_bpe() { python -c 'import json, sys; print(json.load(open(sys.argv[1]))["remove_bpe"])' "$1"; }

# Average, translate and score every seed's run: evaluate_published [FAIRSEQ OPTIONS...]
# writes average.pt, test.hyp and evaluation.json into each and prints the table.
evaluate_published() {
    local seed run remove='@@ '
    whole encoder-layers decoder-layers average last-epoch beam max-tokens
    check_seeds
    [ "$dry_run" = true ] || setup_venv prepare
    choose_device "$precision" "$cpu"
    [ ! -e "$data_dir/prepared.json" ] || remove=$(remove_bpe "$data_dir/prepared.json")
    for seed in $seeds; do
        run=$(run_dir "$seed")
        [ "$dry_run" = true ] || [ -d "$run" ] || fail "$run is missing; run scripts/$dataset/train.sh first"
        [ "$dry_run" = true ] || say "Evaluating $run"
        run_or_print admin-fairseq average --inputs "$run" --output "$run/average.pt" \
            --num-epoch-checkpoints "$average" --checkpoint-upper-bound "$last_epoch" --force
        generate "$data_dir/bin" "$run/average.pt" "$run/test" \
            --remove-bpe "$remove" --beam "$beam" --lenpen "$lenpen" --max-tokens "$max_tokens" \
            "${device[@]}" "${extra[@]}"
        run_or_print admin-fairseq score "$run/test.hyp" --data-dir "$data_dir" \
            --output "$run/evaluation.json" --force --checkpoint average.pt \
            --averaged "$average" --beam "$beam" --lenpen "$lenpen"
    done
    run_or_print admin-fairseq results "$save_dir"
}

# The names of all schemes, the values of --init-type.
scheme_names() {
    python -m admin_fairseq.cli schemes --json 2>/dev/null |
        python -c 'import json, sys; print(*(row["scheme"] for row in json.load(sys.stdin)))'
}

# Translate a test set: generate DATA_BIN CHECKPOINT OUTPUT_PREFIX [FAIRSEQ OPTIONS...]
# writes PREFIX.log (fairseq's output), PREFIX.err (its messages) and PREFIX.hyp (plain text, in the
# order of the set).
generate() {
    local data=$1 checkpoint=$2 prefix=$3
    shift 3
    # with fairseq-fixed's default multiple of 8, the last sentences would be left out
    local command=(fairseq-generate "$data" --user-dir admin_fairseq --path "$checkpoint"
        --remove-bpe sentencepiece --required-batch-size-multiple 1 "$@")
    if [ "${dry_run:-false}" = true ]; then
        print_command "${command[@]}"
        return
    fi
    "${command[@]}" >"$prefix.log" 2>"$prefix.err" || {
        tail -n 3 "$prefix.err" >&2
        fail "generation failed, see $prefix.err"
    }
    grep '^H-' "$prefix.log" | sed 's/^H-//' | sort -n | cut -f3 >"$prefix.hyp"
}

# One line, BLEU and its signature: bleu HYPOTHESIS REFERENCE
bleu() {
    [ "$(wc -l <"$1")" -eq "$(wc -l <"$2")" ] || fail "$1 and $2 differ in their number of lines"
    sacrebleu "$2" --input "$1" --metrics bleu --format text --width 2
}

# Pieces and fairseq's binary format, from DIR/{train,valid,test}.{de,en}: binarise DIR PIECES TYPE
binarise() {
    local dir=$1 pieces=$2 type=$3 split lang
    say "Training a sentencepiece model of $pieces pieces"
    python "$root/scripts/subwords.py" train --model "$dir/sentencepiece.model" \
        --vocab-size "$pieces" --type "$type" "$dir"/train.{de,en}
    say "Splitting into pieces"
    for split in train valid test; do
        for lang in de en; do
            python "$root/scripts/subwords.py" encode --model "$dir/sentencepiece.model" \
                <"$dir/$split.$lang" >"$dir/$split.sp.$lang"
        done
    done
    fairseq-preprocess --source-lang de --target-lang en --joined-dictionary \
        --trainpref "$dir/train.sp" --validpref "$dir/valid.sp" --testpref "$dir/test.sp" \
        --destdir "$dir/bin" --workers 2 >"$dir/preprocess.log" 2>&1 || {
        tail -n 3 "$dir/preprocess.log" >&2
        fail "fairseq-preprocess failed, see $dir/preprocess.log"
    }
}
