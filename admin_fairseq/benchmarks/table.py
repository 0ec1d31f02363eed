"""List the studies of ``admin-fairseq benchmark WHAT``."""

from admin_fairseq.benchmarks import depth, generation, gpu, launches, memory, steps, training
from admin_fairseq.studies.study import Table

TABLE = Table(
    name="benchmark",
    key="table",
    studies={
        "training": training.STUDY,
        "memory": memory.STUDY,
        "depth": depth.STUDY,
        "generation": generation.STUDY,
        "gpu": gpu.STUDY,
        "steps": steps.STUDY,
        "launches": launches.STUDY,
    },
    folder="runs/benchmarks",
)
