"""DyT: https://github.com/jiachenzhu/DyT, its module alone; its models are for images and LLaMA."""

import torch

from .. import subject
from .common import Source, made, save

SOURCE = Source("jiachenzhu/DyT", "aab5dde0bc1bdd4410f687dad404c87b31808f90", ["dynamic_tanh.py"])
NOTES = "'outputs' is what the module makes of x, with weights as of a norm, by where α starts."
STARTS = (0.2, 0.5, 1.0)


def outputs(start):
    from dynamic_tanh import DynamicTanh

    module = DynamicTanh(8, channels_last=True, alpha_init_value=start).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(module, name).copy_(subject.weights(f"layer_norm.{name}", (8,)))
        return module(subject.summands()[0]).tolist()


if __name__ == "__main__":
    content = {"outputs": {str(start): outputs(start) for start in STARTS}}
    save("dyt", {**made(SOURCE, NOTES), **content})
