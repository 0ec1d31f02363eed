#!/usr/bin/env bash
# Test training, translation and speed on this machine's GPU, and print "ok" or "FAIL" for each test.
# shellcheck disable=SC2154,SC2329 # options are assigned by lib.sh, functions are called by check
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

description="Run quick start, profiling, training in fp16 and bf16, every scheme, resume, generation, two
GPUs and the benchmark on a CUDA machine. Prints 'ok', 'FAIL' or 'skip' for each; status 1 if one failed.
With ADMIN_GPU_CHECK_ON_CPU=1 everything runs in fp32 on the CPU, to test this script."
option out-dir "" "new folder for logs and checkpoints (default: runs/gpu_check-TIME)"
option arch admin_transformer_iwslt_de_en "architecture of all checks except the quick start"
option layers 6 "encoder and decoder layers"
option pairs 5000 "sentence pairs of the corpus that is made for the checks"
option pieces 300 "subword pieces"
option max-tokens 4096 "tokens in a batch"
option updates 200 "updates of a training run"
option benchmark-updates 20 "updates in a timed block of the benchmark"
option jobs 1 "checks that run at a time, after profiling and training in fp16"
flag skip-quickstart "leave the quick start out (the slowest check)"
flag python-ready "install nothing, use the Python on PATH (leaves the quick start out)"
parse_options "$@"

on_cpu=${ADMIN_GPU_CHECK_ON_CPU:-0}
: "${out_dir:=$root/runs/gpu_check-$(date +%Y%m%d-%H%M%S)}"

# check for a GPU before anything is installed
[ "$on_cpu" = 1 ] || command -v nvidia-smi >/dev/null || [ -e /dev/nvidiactl ] ||
    fail "no CUDA device here: neither nvidia-smi nor /dev/nvidiactl"

if [ "$python_ready" = true ]; then
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    command -v python >/dev/null || python() { python3 "$@"; }
    command -v sacrebleu >/dev/null || sacrebleu() { python -m sacrebleu "$@"; }
    command -v fairseq-train >/dev/null || fairseq-train() { python -m fairseq_cli.train "$@"; }
    command -v fairseq-generate >/dev/null ||
        fairseq-generate() { python -m fairseq_cli.generate "$@"; }
    command -v fairseq-preprocess >/dev/null ||
        fairseq-preprocess() { python -m fairseq_cli.preprocess "$@"; }
else
    setup_venv quickstart
fi

[ "$on_cpu" = 1 ] || have_gpu || fail "torch sees no CUDA device here"

mkdir -p "$out_dir"
out_dir=$(cd "$out_dir" && pwd)
[ -z "$(ls -A "$out_dir")" ] || fail "$out_dir is not empty"
cd "$root"

if [ "$on_cpu" = 1 ]; then
    gpus=0
else
    gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
fi
all_gpus=${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((gpus - 1)))}
export CUDA_VISIBLE_DEVICES=${all_gpus%%,*} # fairseq takes every GPU that it sees

data=$out_dir/corpus

# Run a check and print ok or FAIL, followed by the text that the check writes to file descriptor 3:
# check NAME FUNCTION [ARGUMENTS...]
check() {
    local name=$1 log=$out_dir/${1// /-}.log started=$SECONDS status told
    shift
    set +e # an `if` would switch -e off inside the function too
    (
        set -e
        "$@"
    ) >"$log" 2>&1 3>"$log.told"
    status=$?
    set -e
    told=$(<"$log.told")
    rm "$log.told"
    if [ "$status" = 0 ]; then
        printf 'ok   %s (%d s)%s\n' "$name" $((SECONDS - started)) "${told:+: $told}"
    else
        printf 'FAIL %s: see %s\n' "$name" "$log"
        echo "$name" >>"$out_dir/failed"
    fi
}

# Run a check in the background, at most --jobs at a time: aside NAME FUNCTION [ARGUMENTS...]
aside() {
    [ "$(jobs -rp | wc -l)" -lt "$jobs" ] || wait -n
    check "$@" &
}

skip() { printf 'skip %s: %s\n' "$1" "$2"; }

# Print fairseq's option for a precision on this device: device fp32|fp16|bf16
device() {
    if [ "$on_cpu" = 1 ]; then
        echo --cpu
    elif [ "$1" != fp32 ]; then
        echo "--$1"
    fi
}

# Train a model on the corpus: train SAVE_DIR PRECISION INIT_TYPE [FAIRSEQ OPTIONS...]
train() {
    local save_dir=$1 words
    read -ra words <<<"$(device "$2") --init-type $3"
    shift 3
    fairseq-train "$data/bin" --user-dir admin_fairseq --task translation \
        --source-lang de --target-lang en --save-dir "$save_dir" --arch "$arch" \
        --encoder-layers "$layers" --decoder-layers "$layers" --share-all-embeddings \
        --optimizer radam --adam-betas "(0.9, 0.98)" --lr 1e-3 \
        --lr-scheduler inverse_sqrt --warmup-updates 20 \
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
        --max-tokens "$max_tokens" --max-update "$updates" --seed 1 --disable-validation \
        --no-epoch-checkpoints --log-format json --log-interval 1 "${words[@]}" "$@"
}

# Print the training loss after each update, a line each, from a log of fairseq-train: losses LOG
losses() { sed -n 's/.*| train_inner |.*"loss": "\([^"]*\)".*/\1/p' "$1"; }

# Train a model, and fail unless every loss is finite and the last is below the first:
# train_well NAME PRECISION INIT_TYPE [FAIRSEQ OPTIONS...]
train_well() {
    local name=$1
    shift
    train "$out_dir/$name" "$@" | tee "$out_dir/$name.out"
    losses "$out_dir/$name.out" | python -c '
import math, sys
losses = [float(line) for line in sys.stdin]
assert losses, "no losses in the log"
assert all(math.isfinite(loss) for loss in losses), losses
assert losses[-1] < losses[0], (losses[0], losses[-1])
print(f"loss {losses[0]:.2f} to {losses[-1]:.2f}")' >&3
}

quick_start() {
    bash scripts/quickstart.sh | tee "$out_dir/quickstart.out"
    grep '^BLEU' <(tail -n 1 "$out_dir/quickstart.out") >&3
}

corpus() {
    python scripts/quickstart/make_corpus.py "$data" --pairs "$pairs" --valid 50 --test 100
    binarise "$data" "$pieces" bpe
}

profiling_pass() {
    train "$out_dir/profiling" fp32 adaptive-profiling
    [ ! -e "$out_dir/profiling/checkpoint_last.pt" ]
    python - "$out_dir/profiling/profile.json" $((5 * layers)) >&3 <<'END'
import json, sys

omegas = [entry["omega"] for entry in json.load(open(sys.argv[1]))["sublayers"]]
assert len(omegas) == int(sys.argv[2]), omegas
print(f"{len(omegas)} omegas up to {max(omegas):.2f}")
END
}

# Profile in fp32 and in fp16, and compare Admin's residual scales ω. Without dropout, because its
# masks on a GPU depend on the precision.
half_precision_profile() {
    local precision
    for precision in fp32 fp16; do
        train "$out_dir/profile-$precision" "$precision" adaptive-profiling --dropout 0
    done
    python - "$out_dir"/profile-{fp32,fp16}/profile.json >&3 <<'END'
import json, sys

full, half = ([e["omega"] for e in json.load(open(p))["sublayers"]] for p in sys.argv[1:])
assert len(full) == len(half)
largest = max(abs(h / f - 1) for f, h in zip(full, half))
assert largest < 0.01, f"omegas differ by up to {largest:.2%}"
print(f"largest difference {largest:.4%}")
END
}

train_fp16() { train_well fp16 fp16 adaptive --profile-path "$out_dir/profiling/profile.json"; }

# Stop a run half way and resume it without profile.json; fail unless every loss is within 1 % of the
# uninterrupted run's loss.
resume() {
    local dir=$out_dir/resume
    mkdir "$dir"
    cp "$out_dir/profiling/profile.json" "$dir"
    train "$dir" fp16 adaptive --max-update $((updates / 2))
    rm "$dir/profile.json"
    train "$dir" fp16 adaptive | tee "$dir.out"
    grep "Loaded checkpoint .* updates" "$dir.out"
    losses "$dir.out" >"$dir.losses"
    losses "$out_dir/fp16.out" | tail -n "$(wc -l <"$dir.losses")" |
        paste - "$dir.losses" | python -c '
import sys
pairs = [[float(loss) for loss in line.split()] for line in sys.stdin]
assert pairs, "no losses in the log"
largest = max(abs(resumed / straight - 1) for straight, resumed in pairs)
assert largest < 0.01, f"losses differ by up to {largest:.2%}"
print(f"{len(pairs)} updates, largest difference of loss {largest:.4%}")' >&3
}

# Translate with one checkpoint in fp32 and in fp16, and compare the scores of the translations (log-
# probabilities), because the BLEU of so short a run means little.
generation() {
    local precision words
    for precision in fp32 fp16; do
        read -ra words <<<"$(device "$precision")"
        generate "$data/bin" "$out_dir/fp16/checkpoint_last.pt" "$out_dir/translation-$precision" \
            --beam 4 --max-len-b 50 --max-tokens "$max_tokens" "${words[@]}"
        bleu "$out_dir/translation-$precision.hyp" "$data/test.en"
    done
    python - "$out_dir"/translation-{fp32,fp16}.log >&3 <<'END'
import math, sys

texts, means = [], []
for path in sys.argv[1:]:
    lines = [line.rstrip("\n").split("\t") for line in open(path) if line.startswith("H-")]
    texts.append({number: text for number, _, text in lines})
    means.append(sum(float(score) for _, score, _ in lines) / len(lines))
assert math.isfinite(means[1]) and abs(means[1] / means[0] - 1) < 0.02, means
alike = sum(texts[0][number] == text for number, text in texts[1].items())
print(f"{alike} of {len(lines)} as in fp32, mean score {means[1]:.3f}, in fp32 {means[0]:.3f}")
END
}

two_gpus() {
    export CUDA_VISIBLE_DEVICES=$all_gpus
    train_well two fp16 adaptive-auto --distributed-world-size 2
    grep '"workers": 2' "$out_dir/two/profile.json"
}

speed() {
    local words=(--precision fp16)
    [ "$on_cpu" != 1 ] || words=(--cpu)
    python -m admin_fairseq.cli benchmark gpu --arch "$arch" --layers "$layers" \
        --max-tokens "$max_tokens" --updates "$benchmark_updates" --output-dir "$out_dir" --force \
        "${words[@]}" | tee "$out_dir/benchmark.out"
    grep '; ratio' "$out_dir/benchmark.out" >&3
}

if [ "$skip_quickstart" = true ]; then
    skip "quick start" "--skip-quickstart"
elif [ "$python_ready" = true ]; then
    skip "quick start" "it installs, which --python-ready rules out"
else
    check "quick start" quick_start
fi
check "corpus" corpus
check "profiling pass" profiling_pass
check "training fp16" train_fp16
aside "resume" resume
aside "generation" generation
aside "fp16 profile" half_precision_profile
aside "training bf16" train_well bf16 bf16 adaptive-auto
[ "$on_cpu" = 1 ] || aside "CUDA graphs" train_well graphs fp16 adaptive-auto \
    --criterion label_smoothed_cross_entropy_chunked --cuda-graphs --optimizer adam_fused
for scheme in $(scheme_names); do
    case $scheme in
        adaptive*) ;; # Admin: checked above
        *) aside "fp16 $scheme" train_well "$scheme" fp16 "$scheme" ;;
    esac
done
wait
if [ "$gpus" -ge 2 ]; then
    check "two GPUs" two_gpus
else
    skip "two GPUs" "$([ "$gpus" = 1 ] && echo one || echo none) here"
fi
check "benchmark" speed
[ ! -e "$out_dir/failed" ]
