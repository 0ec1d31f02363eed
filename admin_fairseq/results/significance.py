"""Test whether the translations of two runs differ significantly in BLEU."""

from __future__ import annotations

import logging
import os
from typing import Optional

from admin_fairseq.corpora.prepared import PREPARED
from admin_fairseq.errors import blaming
from admin_fairseq.results.references import read_references, read_translations
from admin_fairseq.results.runs import TRANSLATIONS, Run

logger = logging.getLogger(__name__)


MORE_THAN_ROUNDING = 0.005
"""A difference in BLEU that is larger than any from rounding."""


def significance(run: Run, other: Run) -> Optional[float]:
    """Return the p-value of the difference in detokenised BLEU; None if it cannot be computed.

    Needed are test.hyp in the folders of both runs, which ``admin-fairseq evaluate`` writes, and
    the prepared data where both runs found them, with the same test set. A relative path of data
    may lead to others from here: they are not used, with a warning, if they give another BLEU than
    evaluation.json has. Raises AdminError if a file cannot be read, or if the numbers of sentences
    differ.
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
    for one, path, lines in zip((run, other), systems, (hypotheses, baseline)):
        with blaming(path):
            found = references.detokenised(lines).score
        recorded = one.score("detokenised")
        if recorded is not None and abs(found - recorded) > MORE_THAN_ROUNDING:
            logger.warning(
                "%s: BLEU %.2f against the references in %s, but %.2f in its evaluation.json: no p "
                "(were these data made again, or are others there, seen from here?)",
                *(path, found, ", ".join(folders), recorded),
            )
            return None
    return references.p_value(hypotheses, baseline)
