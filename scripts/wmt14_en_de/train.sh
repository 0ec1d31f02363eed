#!/usr/bin/env bash
# Train on WMT14 En-De as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published train wmt14_en_de "$@"
