#!/usr/bin/env bash
# Prepare multi30k from the files in --raw-dir: split into pieces, binarise.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare multi30k "$@"
