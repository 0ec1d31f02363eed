#!/usr/bin/env bash
# Train on WMT17 En-De as admin-torch compares Admin, DeepNet and itself: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published train wmt17_en_de "$@"
