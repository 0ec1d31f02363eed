"""Runs are not resumed with the state of another optimiser.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``Trainer.load_checkpoint``): it compares the
classes of the optimisers, which with --fp16 and --bf16 are all ``FP16Optimizer``. RAdam then
silently uses Adam's moments, and Adam fails on NovoGrad's with a KeyError; a difference that is
found ends in the traceback of an assertion.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Mapping, Optional

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer

from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.repairs.stand_in import replaced

SAME_STATE = {"adam_fused": "adam"}
"""Optimiser → the one with the same state; each resumes from checkpoints of the other."""


def apply() -> None:
    """Let fairseq compare the optimisers' names, and report differences in one line."""
    Trainer.load_checkpoint = _comparing(Trainer.load_checkpoint)


def _comparing(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_checkpoint(
        self: Trainer, filename: str, reset_optimizer: bool = False, *words: Any, **options: Any
    ) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu

        def load_checkpoint_to_cpu(path: str, **how: Any) -> dict[str, Any]:
            state = read(path, **how)
            if not reset_optimizer:
                with blaming(path):
                    check(state, _name(self.cfg.optimizer))
            return state

        try:
            with replaced(checkpoint_utils, load_checkpoint_to_cpu=load_checkpoint_to_cpu):
                return load(self, filename, reset_optimizer, *words, **options)
        except (AssertionError, ValueError) as error:
            raise _in_one_line(error, filename) from None

    return load_checkpoint


def check(state: Mapping[str, Any], optimizer: Optional[str]) -> None:
    """Raise AdminError if the checkpoint's optimiser is not ``optimizer``.

    A checkpoint without optimiser state passes, and so does an optimiser without a name.
    """
    saved = _optimizer_of(state)
    if state.get("last_optimizer_state") is None or saved is None or optimizer is None:
        return
    if SAME_STATE.get(saved, saved) != SAME_STATE.get(optimizer, optimizer):
        raise AdminError(
            f"the state of --optimizer {saved}, and this run has --optimizer {optimizer}; "
            "add --reset-optimizer to go on from the weights alone"
        )


def _optimizer_of(state: Mapping[str, Any]) -> Optional[str]:
    """The value of --optimizer; before fairseq 0.10, options were in "args"."""
    if state.get("cfg") is not None:
        return _name(state["cfg"].get("optimizer"))
    return getattr(state.get("args"), "optimizer", None)


def _name(options: Any) -> Optional[str]:
    """The optimiser's name; options without a dataclass, such as those of sgd, are a Namespace."""
    return options.get("_name") if isinstance(options, Mapping) else getattr(options, "_name", None)


def _in_one_line(error: Exception, path: str) -> Exception:
    """Errors of fairseq and torch about a state that does not fit in one line; others unchanged."""
    if "loaded state dict" in str(error):  # of another number of tensors
        return AdminError(
            f"{path}: its optimiser's state is for other tensors, as with or without "
            "--fp16-no-flatten-grads; use the same options as before, or add --reset-optimizer"
        )
    return AdminError(f"{path}: {error}") if "--reset-optimizer" in str(error) else error
