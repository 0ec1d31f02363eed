"""Test whether the translations of two runs differ significantly in BLEU."""

from __future__ import annotations

import os
from typing import Optional

from admin_fairseq.corpora.prepared import PREPARED
from admin_fairseq.results.references import read_references, read_translations
from admin_fairseq.results.runs import TRANSLATIONS, Run


def significance(run: Run, other: Run) -> Optional[float]:
    """Return the p-value of the difference in detokenised BLEU; None if a file for it is missing.

    Needed are test.hyp in the folders of both runs, which ``admin-fairseq evaluate`` writes, and
    the prepared data where ``run`` found them. Raises AdminError if a file cannot be read, or if
    the numbers of sentences differ.
    """
    systems = [os.path.join(one.folder, TRANSLATIONS) for one in (run, other)]
    data_dir = os.path.dirname(os.path.abspath(run.data))
    if not all(map(os.path.exists, [*systems, os.path.join(data_dir, PREPARED)])):
        return None
    hypotheses, baseline = map(read_translations, systems)
    return read_references(data_dir).p_value(hypotheses, baseline)
