#!/usr/bin/env bash
# Translate Multi30k's test set and score it: admin-fairseq evaluate.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published evaluate multi30k "$@"
