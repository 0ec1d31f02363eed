#!/usr/bin/env bash
# Train on IWSLT14 De-En as published: admin-fairseq train.
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

published train iwslt14_de_en "$@"
