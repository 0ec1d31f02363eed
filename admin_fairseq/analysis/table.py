"""List the studies of ``admin-fairseq analyze WHAT``."""

from admin_fairseq.analysis import report
from admin_fairseq.analysis.studies import (
    amplification,
    dependency,
    gradients,
    magnitude,
    profile,
    training,
)
from admin_fairseq.studies.study import Table

TABLE = Table(
    name="analyze",
    key="study",
    studies={
        "dependency": dependency.STUDY,
        "amplification": amplification.STUDY,
        "gradients": gradients.STUDY,
        "magnitude": magnitude.STUDY,
        "profile": profile.STUDY,
        "training": training.STUDY,
    },
    reports={"report": report.REPORT},
)
