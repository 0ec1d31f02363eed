"""The studies of ``admin-fairseq analyze``, one module each."""

from admin_fairseq.analysis.studies import amplification, dependency, gradients, profile

STUDIES = {
    "dependency": dependency.STUDY,
    "amplification": amplification.STUDY,
    "gradients": gradients.STUDY,
    "profile": profile.STUDY,
}
"""WHAT → study, in the order of a report."""
