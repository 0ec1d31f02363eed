#!/usr/bin/env bash
# Compare fairseq-generate and CTranslate2 on Multi30k's test set: BLEU and speed.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Export a trained model to CTranslate2, in float32 and in int8, and translate the 2016
Flickr test set in turn with fairseq-generate and with both exported models. Prints BLEU, and
sentences per second without loading time. Everything runs on the CPU, on all its cores."
option data-dir "$root/data/multi30k" "folder that prepare has written"
option save-dir "" "folder of a run of admin-fairseq train"
option checkpoint checkpoint_best.pt "checkpoint in that folder"
option beam 4 "beam width"
option max-tokens 4096 "tokens in a batch"
option rounds 3 "number of translations with each model"
parse_options "$@"

[ -n "${save_dir:=}" ] || fail "--save-dir is needed (see --help)"
[ -f "$save_dir/$checkpoint" ] || fail "$save_dir/$checkpoint is missing; run: admin-fairseq train multi30k"
setup_venv ctranslate2

work=$save_dir/serving
mkdir -p "$work"
say "Exporting"
for type in float32 int8; do
    admin-fairseq export --to ctranslate2 "$save_dir/$checkpoint" "$work/$type" --force \
        --data "$data_dir/bin" --quantization "$type" \
        --sentencepiece-model "$data_dir/sentencepiece.model"
done

# Translate the test set once, write it to NAME.hyp, and append the sentences per second to
# NAME.speed: translate_once fairseq|float32|int8
translate_once() {
    local name=$1
    if [ "$name" = fairseq ]; then
        generate "$data_dir/bin" "$save_dir/$checkpoint" "$work/$name" --cpu \
            --beam "$beam" --max-tokens "$max_tokens"
    else
        : >"$work/$name.log"
        admin-fairseq translate "$work/$name" --device cpu --beam "$beam" \
            --max-tokens "$max_tokens" <"$data_dir/test.raw.de" >"$work/$name.hyp" 2>"$work/$name.err" || {
            tail -n 1 "$work/$name.err" >&2
            fail "translation failed, see $work/$name.err"
        }
    fi
    # some versions of fairseq log to standard error, others to standard output
    cat "$work/$name".{err,log} | grep -o '[0-9.]* sentences/s' | tail -n 1 |
        cut -d' ' -f1 >>"$work/$name.speed"
}

engines=(fairseq float32 int8)
rm -f "$work"/*.speed
for round in $(seq "$rounds"); do
    say "Translating, round $round of $rounds"
    for engine in "${engines[@]}"; do
        translate_once "$engine"
    done
done

speeds() { sort -n "$work/$1.speed"; }
median() { speeds "$1" | sed -n "$(((rounds + 1) / 2))p"; }

say "Beam $beam, $(wc -l <"$data_dir/test.raw.de") sentences; sentences per second: median (lowest to highest)"
for engine in "${engines[@]}"; do
    printf '%-8s %s\n         %.1f (%.1f to %.1f), %.2f times fairseq-generate\n' "$engine" \
        "$(bleu "$work/$engine.hyp" "$data_dir/test.raw.en")" "$(median "$engine")" \
        "$(speeds "$engine" | head -n 1)" "$(speeds "$engine" | tail -n 1)" \
        "$(awk "BEGIN {print $(median "$engine") / $(median fairseq)}")"
done
