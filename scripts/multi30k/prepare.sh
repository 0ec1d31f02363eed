#!/usr/bin/env bash
# Split the Multi30k files in --raw-dir into subword pieces and binarise them: admin-fairseq prepare.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published prepare multi30k "$@"
