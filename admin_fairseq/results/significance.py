"""Test whether the translations of two runs differ significantly in BLEU."""

from __future__ import annotations

import os
from typing import Optional

from admin_fairseq.corpora.prepared import PREPARED
from admin_fairseq.errors import blaming
from admin_fairseq.results.references import read_references, read_translations
from admin_fairseq.results.runs import TRANSLATIONS, Run


def significance(run: Run, other: Run) -> Optional[float]:
    """Return the p-value of the difference in detokenised BLEU; None if it cannot be computed.

    Needed are test.hyp in the folders of both runs, which ``admin-fairseq evaluate`` writes, and
    the prepared data where both runs found them, with the same test set. Raises AdminError if a
    file cannot be read, or if the numbers of sentences differ.
    """
    systems = [os.path.join(one.folder, TRANSLATIONS) for one in (run, other)]
    folders = {os.path.dirname(os.path.realpath(one.data)) for one in (run, other)}
    needed = [*systems, *(os.path.join(folder, PREPARED) for folder in folders)]
    if not all(map(os.path.exists, needed)):
        return None
    references, *more = map(read_references, folders)
    if any(one.text != references.text for one in more):
        return None
    hypotheses, baseline = map(read_translations, systems)
    with blaming(" and ".join(systems)):
        return references.p_value(hypotheses, baseline)
