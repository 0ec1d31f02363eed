#!/usr/bin/env bash
# Prepare multi30k from the files in --raw-dir: split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

setup_venv prepare
exec admin-fairseq prepare multi30k --data-dir "$root/data/multi30k" "$@"
