#!/usr/bin/env bash
# Train a small model on Multi30k De-En: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published train multi30k "$@"
