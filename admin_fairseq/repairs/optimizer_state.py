"""Refuse to resume a run with the saved state of another optimiser.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``Trainer.load_checkpoint``): fairseq compares
the classes of the optimisers, which with --fp16 and --bf16 are all ``FP16Optimizer``. RAdam then
silently uses Adam's moments, and Adam fails on NovoGrad's with a KeyError; a difference that
fairseq does find ends in the traceback of an assertion. Nobody compares the sizes of moments and
weights, which differ where a classification head has other classes: the first step fails.
"""

from __future__ import annotations

import functools
from itertools import chain
from typing import Any, Callable, Mapping, Optional

from fairseq import checkpoint_utils
from fairseq.optim import FairseqOptimizer
from fairseq.trainer import Trainer

from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.repairs.stand_in import replaced

SAME_STATE = {"adam_fused": "adam"}
"""Optimiser → another with the same saved state, so that each can resume from the other's."""


def apply() -> None:
    """Patch fairseq's trainer to compare --optimizer with the checkpoint's before it resumes.

    A difference is reported in one line.
    """
    Trainer.load_checkpoint = _comparing(Trainer.load_checkpoint)


def _comparing(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.load_checkpoint`` to raise AdminError for another optimiser's state.

    With --reset-optimizer the checkpoint's optimiser is not compared.
    """

    @functools.wraps(load)
    def load_checkpoint(
        self: Trainer, filename: str, reset_optimizer: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu
        loaded = False

        def load_checkpoint_to_cpu(path: str, **how: Any) -> dict[str, Any]:
            nonlocal loaded
            state = read(path, **how)
            if not reset_optimizer:
                loaded = True
                with blaming(path):
                    check(state, _name(self.cfg.optimizer))
            return state

        try:
            with replaced(checkpoint_utils, load_checkpoint_to_cpu=load_checkpoint_to_cpu):
                extra = load(self, filename, reset_optimizer, *args, **kwargs)
        except (AssertionError, ValueError) as error:
            raise _in_one_line(error, filename) from None
        if loaded:
            with blaming(filename):
                _check_sizes(self.optimizer)
        return extra

    return load_checkpoint


def check(state: Mapping[str, Any], optimizer: Optional[str]) -> None:
    """Raise AdminError if the checkpoint ``state`` has the state of another optimiser.

    ``optimizer`` is the run's --optimizer. Nothing is compared if the checkpoint has no optimiser
    state, or one of the two optimisers has no name.
    """
    saved = _optimizer_of(state)
    if state.get("last_optimizer_state") is None or saved is None or optimizer is None:
        return
    if SAME_STATE.get(saved, saved) != SAME_STATE.get(optimizer, optimizer):
        raise AdminError(
            f"has the state of --optimizer {saved}, but this run has --optimizer {optimizer}; "
            "add --reset-optimizer to continue from the weights alone"
        )


def _check_sizes(optimizer: FairseqOptimizer) -> None:
    """Raise AdminError if the first moment of a weight has another size than the weight."""
    states = getattr(optimizer.optimizer, "state", {})  # --optimizer composite has none of its own
    for p in chain.from_iterable(group["params"] for group in optimizer.param_groups):
        size = states.get(p, {}).get("exp_avg", p).shape
        if size != p.shape:
            raise AdminError(
                f"its optimiser's state is for a weight of size {tuple(size)}, which is "
                f"{tuple(p.shape)} in this run; use the same options as before, add "
                "--reset-optimizer, or choose another --save-dir and give this checkpoint to "
                "--finetune-from-model"
            )


def _optimizer_of(state: Mapping[str, Any]) -> Optional[str]:
    """Return the value of --optimizer that is recorded in a checkpoint's content, or None.

    Before fairseq 0.10 options were recorded under "args", later under "cfg".
    """
    if state.get("cfg") is not None:
        return _name(state["cfg"].get("optimizer"))
    return getattr(state.get("args"), "optimizer", None)


def _name(options: Any) -> Optional[str]:
    """Return the optimiser's name from its options, a Mapping or (for sgd) a Namespace."""
    return options.get("_name") if isinstance(options, Mapping) else getattr(options, "_name", None)


def _in_one_line(error: Exception, path: str) -> Exception:
    """Turn an error about an optimiser state that does not fit into an AdminError about ``path``.

    Returns other errors as they are.
    """
    if "loaded state dict" in str(error):  # saved for another number of tensors
        return AdminError(
            f"{path}: its optimiser's state is for other tensors, for example because "
            "--fp16-no-flatten-grads was added or removed; use the same options as before, "
            "or add --reset-optimizer"
        )
    return AdminError(f"{path}: {error}") if "--reset-optimizer" in str(error) else error
