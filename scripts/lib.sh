# shellcheck shell=bash
# Functions that the scripts share; a script sources this file first. Options are declared, then
# parsed:
#
#   option arch admin_transformer "architecture"      # --arch VALUE -> $arch
#   flag cpu "train on the CPU"                       # --cpu        -> $cpu is true
#   parse_options "$@"                                # arguments after -- go to the array extra

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
                [ $# -gt 1 ] || fail "$1 needs a value"
                printf -v "${name//-/_}" '%s' "$2"
                shift 2
                ;;
            *) fail "unexpected argument '$1' (see --help)" ;;
        esac
    done
}

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Print the Python to make .venv with: $PYTHON, or else Python 3.11, or any supported version.
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

# Install this package with the given extras into .venv, unless that was done before, and put .venv
# on PATH: setup_venv EXTRAS. With NO_INSTALL set, do nothing, so that the commands on PATH are used.
setup_venv() {
    local extras=$1 python stamp
    [ -z "${NO_INSTALL:-}" ] || return 0
    export PATH=$venv/bin:$PATH
    stamp=$venv/.installed-$extras-$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum | cut -d' ' -f1)
    [ -e "$stamp" ] && return
    exec 9>"$root/.venv.lock"
    flock 9 # so that only one script installs at a time
    [ -e "$stamp" ] && return
    python=$(find_python)
    say "Installing into $venv (the first time takes some minutes: fairseq is built from source)"
    [ -e "$venv/bin/python" ] || "$python" -m venv "$venv"
    if [ "$(python_version "$venv/bin/python")" = 3.11 ]; then
        # install the versions of constraints.txt, and build fairseq with that torch too. The file
        # is named by a file:// address, because pip would split a path with spaces.
        export PIP_CONSTRAINT=file://${root// /%20}/constraints.txt
        export PIP_BUILD_CONSTRAINT=$PIP_CONSTRAINT
    else
        say "Not Python 3.11: installing the newest versions, which can differ from the tested ones"
        "$venv/bin/pip" install --quiet "pip<24.1" "setuptools<70" # fairseq 0.12.2 needs them
    fi
    "$venv/bin/pip" install --quiet torch numpy
    "$venv/bin/pip" install --quiet --editable "${root}[$extras]"
    # fairseq looks for --user-dir admin_fairseq in its own parent folder, where an editable
    # installation puts nothing
    ln -sfn "$root/admin_fairseq" "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/admin_fairseq"
    "$venv/bin/admin-fairseq" configs "$root/configs" --force >/dev/null # the files for model=, optimizer= are not committed
    touch "$stamp"
    exec 9>&-
}

have_gpu() { [ "$(python -c 'import torch; print(torch.cuda.is_available())')" = True ]; }

# Set the array device to fairseq's options for the CPU (--cpu), or for a GPU in fp16 or fp32:
# choose_device true|false fp16|fp32. Without a GPU, the CPU is used in any case.
choose_device() {
    device=()
    if [ "$1" = true ] || ! have_gpu; then
        device+=(--cpu)
    elif [ "$2" = fp16 ]; then
        device+=(--fp16)
    fi
}

# Run admin-fairseq COMMAND for a published data set, with data and runs in the folders data/ and
# runs/ of this repository: published COMMAND DATASET [ARGUMENTS...]
published() {
    local command=$1 dataset=$2 runs=(--save-dir "$root/runs/$2")
    shift 2
    setup_venv prepare
    [ "$command" != prepare ] || runs=()
    exec admin-fairseq "$command" "$dataset" --data-dir "$root/data/$dataset" "${runs[@]}" "$@"
}

# Run a command and write its output to a file; if the command fails, show the last lines of the
# file and exit: quietly FILE COMMAND [ARGUMENTS...]
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 3 "$log" >&2
        fail "$1 failed, see $log"
    }
}

# Print the names of all schemes (the values of --init-type) in one line.
scheme_names() {
    python -m admin_fairseq.cli schemes --json 2>/dev/null |
        python -c 'import json, sys; print(*(row["scheme"] for row in json.load(sys.stdin)))'
}

# Translate a test set: generate DATA_BIN CHECKPOINT OUTPUT_PREFIX [FAIRSEQ OPTIONS...]
# Writes OUTPUT_PREFIX.log (fairseq-generate's output), .err (its messages) and .hyp (the
# translations as plain text, in the order of the test set).
generate() {
    local data=$1 checkpoint=$2 prefix=$3
    shift 3
    # with fairseq-fixed's default multiple of 8, the last sentences would be left out
    fairseq-generate "$data" --user-dir admin_fairseq --path "$checkpoint" \
        --remove-bpe sentencepiece --required-batch-size-multiple 1 "$@" \
        >"$prefix.log" 2>"$prefix.err" || {
        tail -n 3 "$prefix.err" >&2
        fail "generation failed, see $prefix.err"
    }
    grep '^H-' "$prefix.log" | sed 's/^H-//' | sort -n | cut -f3 >"$prefix.hyp"
}

# Print BLEU and sacreBLEU's signature in one line: bleu TRANSLATIONS_FILE REFERENCE_FILE
bleu() {
    [ "$(wc -l <"$1")" -eq "$(wc -l <"$2")" ] || fail "$1 and $2 differ in their number of lines"
    sacrebleu "$2" --input "$1" --metrics bleu --format text --width 2
}

# Learn PIECES subword pieces from DIR/train.{de,en}, split DIR/{train,valid,test}.{de,en} into them,
# and write fairseq's binary format to DIR/bin: binarise DIR PIECES bpe|unigram
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
    quietly "$dir/preprocess.log" fairseq-preprocess --source-lang de --target-lang en \
        --joined-dictionary --trainpref "$dir/train.sp" --validpref "$dir/valid.sp" \
        --testpref "$dir/test.sp" --destdir "$dir/bin" --workers 2
}
