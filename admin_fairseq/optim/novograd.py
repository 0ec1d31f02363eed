"""The optimiser ``novograd`` (Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286)."""

from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch
from fairseq.optim import OPTIMIZER_REGISTRY, register_optimizer

from admin_fairseq.errors import AdminError
from admin_fairseq.optim.adam_options import AdamLike, AdamOptions
from admin_fairseq.optim.half_precision import Float32Steps, copy_back, in_float32


class NovoGrad(Float32Steps):
    """Optimiser like Adam, with one second moment per weight tensor W, that of its gradient's norm.

    v ← β2 v + (1 − β2) ‖g‖²,  m ← β1 m + g / (√v + ε) + wd · W,  W ← W − lr · m,

    except in the first step, where v = ‖g‖². m starts at 0.

    The Admin release has a NovoGrad whose v starts at 0, so that its first step is larger by 1/√(1
    − β2); the release's command line could not select it, so no published run used it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], float]] = None) -> Any:
        """Update all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, p.grad, group)
        return loss

    def _step_one(self, p: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Update the weight p with its ``gradient`` and the options of ``group``."""
        state = self.state[p]
        weight, gradient = in_float32([p, gradient])
        if not state:
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = gradient.norm() ** 2
        beta1, beta2 = group["betas"]
        state["exp_avg_sq"].lerp_(gradient.norm() ** 2, 1 - beta2)
        normed = gradient / (state["exp_avg_sq"].sqrt() + group["eps"])
        state["exp_avg"].mul_(beta1).add_(normed).add_(weight, alpha=group["weight_decay"])
        weight.sub_(state["exp_avg"], alpha=group["lr"])
        copy_back([p], [weight])


class FairseqNovoGrad(AdamLike):
    """``--optimizer novograd``, with the options of fairseq's adam."""

    optimizer_class, name = NovoGrad, "novograd"

    @property
    def supports_flat_params(self) -> bool:
        """Raise AdminError: fairseq reads this only if all weights are flattened into one tensor.

        Such a tensor has only one norm, but NovoGrad needs that of each weight.
        """
        raise AdminError(
            "--optimizer novograd treats each weight separately: "
            "add --fp16-no-flatten-grads (fully_sharded cannot be used)"
        )


if "novograd" not in OPTIMIZER_REGISTRY:  # the module may be imported twice
    register_optimizer("novograd", dataclass=AdamOptions)(FairseqNovoGrad)
