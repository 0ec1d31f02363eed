"""Plugin of deep transformers for fairseq: ``fairseq-train --user-dir admin_fairseq``.

Importing the package patches faults of fairseq (``repairs``, ``starting``), then registers the
package's models, criterion, optimisers and learning-rate schedules with fairseq. The functions for
scripts (``load``, ``fold``, ``read_profile``, ``layer_dependency``) are explained in ``api``.
"""

import logging
import os
import warnings

# when imported, this module logs the advice to install tensorboardX
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # from fairscale, which fairseq imports
    from fairseq import utils

from admin_fairseq import dynamics, starting  # noqa: E402
from admin_fairseq.repairs import (  # noqa: E402
    attention_plans,
    batch_layouts,
    broadcast,
    cpu_workers,
    data_folders,
    divergence,
    evaluated_options,
    half_copies,
    loading_threads,
    log_streams,
    missing_task,
    numpy_names,
    optimizer_state,
    position,
    reading,
    run_log,
    save_dir,
    saving,
    spawning,
    uncaught,
    unfit_weights,
)

# in this order: cpu_workers replaces fairseq's call_main, save_dir and starting wrap what they
# find, run_log writes what divergence raises
for repair in (
    uncaught,
    attention_plans,
    batch_layouts,
    broadcast,
    cpu_workers,
    half_copies,
    loading_threads,
    log_streams,
    missing_task,
    numpy_names,
    optimizer_state,
    position,
    spawning,
    data_folders,
    evaluated_options,
    reading,
    saving,
    save_dir,
    divergence,
    run_log,
    unfit_weights,
    starting,
    dynamics,
):
    repair.apply()

from admin_fairseq.api import (  # noqa: E402
    AdminError,
    Profile,
    fold,
    layer_dependency,
    load,
    read_profile,
)
from admin_fairseq.criterions import label_smoothed_cross_entropy_chunked  # noqa: E402, F401
from admin_fairseq.lr_scheduler import inverse_sqrt_nowarmup, linear  # noqa: E402, F401
from admin_fairseq.models import (  # noqa: E402, F401
    language_model,
    masked_language_model,
    transformer,
)
from admin_fairseq.optim import adam_fused, novograd, radam  # noqa: E402, F401

__all__ = ["AdminError", "Profile", "fold", "layer_dependency", "load", "read_profile"]
__version__ = "0.1.0"


def _paths_of_user_dir() -> list[str]:
    """Return other paths under which fairseq's --user-dir may look for this package.

    fairseq refuses a package that is already imported unless its ``__path__`` contains the path
    that fairseq computes for it: an absolute one, or one relative to fairseq's own folder.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    beside_fairseq = os.path.join(os.path.dirname(utils.__file__), "..", __name__)
    return [
        path
        for path in (here, os.path.realpath(here), beside_fairseq)
        if path not in __path__ and os.path.exists(path) and os.path.samefile(path, here)
    ]


__path__ += _paths_of_user_dir()
