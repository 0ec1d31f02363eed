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
