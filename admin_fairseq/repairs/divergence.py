"""End a training run whose gradients are not finite in one line, after naming the first module.

After such an update fairseq (0.12.2 and fairseq-fixed 0.12.3.1) repeats it with ``NanDetector``'s
hooks on every module, to log which is the first whose output is not finite. Its backward hooks are
torch's old ones, which fail with StopIteration on outputs without a tensor at the top, such as an
encoder's dictionary of lists. So a run that has diverged ends in a traceback without the reason,
and nothing is named. (Where it does not fail, it logs every gradient, thousands of lines.) With
several workers the reason given is another one, "gradients are inconsistent between workers", since
NaN does not equal NaN.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
from typing import Any, Callable, Iterator, Optional

import torch
from fairseq import trainer as fairseqs_trainer
from fairseq.nan_detector import NanDetector
from fairseq.trainer import Trainer
from torch import Tensor, nn

from admin_fairseq.errors import AdminError

logger = logging.getLogger(__name__)

NOT_FINITE = re.compile(r"gradients are Nan/Inf|rank +\d+ = -?(nan|inf)")
ADVICE = (
    "gradients are Nan/Inf: training has diverged; "
    "try a lower --lr, a longer warm-up or --clip-norm"
)


class Diverged(AdminError, FloatingPointError):
    """Gradients that are not finite, a loss scale at its minimum, or workers that differ."""


def apply() -> None:
    """Patch fairseq's trainer and its detector of NaN and infinity."""
    fairseqs_trainer.NanDetector = Detector
    Trainer.train_step = _ending_in_one_line(Trainer.train_step)


class Detector(NanDetector):
    """Names the first module with a non-finite output (forward) or output gradient (backward).

    Used as fairseq's, as a context around the repeated update.
    """

    def add_hooks(self, module: nn.Module) -> None:
        """Watch the outputs of ``module``, and the loss's gradients with respect to them."""

        def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.fhook_fn(module, inputs, output)
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self.bhook_fn(module, inputs, grad))

        self.fhooks.append(module.register_forward_hook(watch))

    def __exit__(self, *raised: Any) -> None:
        """Remove the hooks; log how many weights have gradients that are not finite."""
        grads = [weight.grad for _, weight in self.named_parameters if weight.grad is not None]
        count = sum(not torch.isfinite(grad).all() for grad in grads)
        logger.info(f"gradients are not finite in {count} of {len(grads)} weights")
        self.close()


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the tensors in ``output``: nested dictionaries, lists and tuples."""
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, (dict, list, tuple)):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


def _ending_in_one_line(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.train_step`` to raise Diverged for fairseq's FloatingPointError.

    This holds too if the repetition with hooks fails, of which the FloatingPointError is then a
    context. An AdminError remains: while the state is saved it has a reason of its own.
    """

    @functools.wraps(train_step)
    def step(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        handled = sys.exc_info()[1]  # the caller's, which is a context of all that follows
        try:
            return train_step(trainer, *args, **kwargs)
        except AdminError:
            raise
        except Exception as error:
            found = _floating_point_error(error, handled)
            if found is None:
                raise
            update = trainer.get_num_updates() + 1
            raise Diverged(f"update {update}: {_reason(str(found))}") from None

    return step


def _floating_point_error(
    error: Optional[BaseException], handled: Optional[BaseException]
) -> Optional[FloatingPointError]:
    """Return the first FloatingPointError among ``error`` and its contexts, up to ``handled``."""
    while error is not None and error is not handled:
        if isinstance(error, FloatingPointError):
            return error
        error = error.__context__
    return None


def _reason(said: str) -> str:
    """Return fairseq's message ``said`` in one line; if gradients are not finite, with advice."""
    return ADVICE if NOT_FINITE.search(said) else " ".join(said.replace("-" * 80, "").split())
