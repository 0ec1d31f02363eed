#!/usr/bin/env bash
# Prepare Multi30k De-En: subword pieces and fairseq's binary format.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

description="Prepare Multi30k De-En from a folder with {train,val,test_2016_flickr}.{de,en}.gz of
the public Multi30k repository (https://github.com/multi30k/dataset, data/task1/raw)."
option raw-dir "" "folder with the six .gz files"
option data-dir "$root/data/multi30k" "where everything is written"
option vocab-size 8000 "sentencepiece BPE pieces, joined for both languages"
parse_options "$@"
[ -n "${raw_dir:=}" ] || fail "--raw-dir is needed (see --help)"

for split in train val test_2016_flickr; do
    for lang in de en; do
        [ -f "$raw_dir/$split.$lang.gz" ] || fail "$raw_dir/$split.$lang.gz is missing"
        gzip --test "$raw_dir/$split.$lang.gz" 2>/dev/null || fail "$raw_dir/$split.$lang.gz is damaged"
    done
    [ "$(zcat "$raw_dir/$split.de.gz" | wc -l)" -eq "$(zcat "$raw_dir/$split.en.gz" | wc -l)" ] ||
        fail "$raw_dir/$split.de.gz and .en.gz differ in their number of lines"
done
setup_venv quickstart

made_with="vocab-size=$vocab_size $(cat "$raw_dir"/{train,val,test_2016_flickr}.{de,en}.gz | cksum)"
if [ "$(cat "$data_dir/done" 2>/dev/null)" = "$made_with" ]; then
    say "$data_dir is ready"
    exit 0
fi
rm -rf "${data_dir:?}/done" "${data_dir:?}/bin"
mkdir -p "$data_dir"

say "Unpacking"
for lang in de en; do
    zcat "$raw_dir/train.$lang.gz" >"$data_dir/train.$lang"
    zcat "$raw_dir/val.$lang.gz" >"$data_dir/valid.$lang"
    zcat "$raw_dir/test_2016_flickr.$lang.gz" >"$data_dir/test.$lang"
done
binarise "$data_dir" "$vocab_size" bpe
printf '%s\n' "$made_with" >"$data_dir/done"
say "Ready: $data_dir/bin"
