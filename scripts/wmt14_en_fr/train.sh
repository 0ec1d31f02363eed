#!/usr/bin/env bash
# Train on WMT14 En-Fr as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published train wmt14_en_fr "$@"
