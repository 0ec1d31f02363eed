"""admin-torch, Admin without a profile: https://github.com/microsoft/admin-torch."""

import torch
from torch import nn

from .. import subject
from .common import Source, made, save

SOURCE = Source(
    "microsoft/admin-torch",
    "08b6605bf92af0fcef2b9e9abb2b6d49e852298a",
    ["admin_torch/admin.py"],
)
NOTES = (
    "'omega' of numbers of sub-layers in a stack. The package's module, buffer and parameter hold "
    "the same ω, one number or, trained, a vector. 'sums' is what its module makes of x and branch "
    "in a stack of SUBLAYERS sub-layers."
)
SCALES = ("O(logn)", "O(1)", "O(n)")


def omegas(scale):
    """Sub-layers → ω, after looking at all forms in which the package gives it."""
    import admin_torch

    found = {}
    for sublayers in subject.SUBLAYERS:
        omega = found[str(sublayers)] = admin_torch.calculate_init(sublayers, scale)
        holder = nn.Module()
        admin_torch.as_buffer(holder, "held", sublayers, scale)
        admin_torch.as_parameter(holder, "trained", sublayers, 8, scale)
        constant = admin_torch.as_module(sublayers, scale).omega
        trained = admin_torch.as_module(sublayers, scale, as_parameter=True, embed_dim=8).omega
        for form, size in ((holder.held, 1), (holder.trained, 8), (constant, 1), (trained, 8)):
            assert torch.equal(form, torch.full((size,), omega))
        assert not constant.requires_grad and trained.requires_grad
    return found


def sums(scale, as_parameter):
    """Of the package's module, in float64."""
    import admin_torch

    options = {"as_parameter": as_parameter, "embed_dim": 8}
    residual = admin_torch.as_module(subject.SUBLAYERS[0], scale, **options).double()
    return residual(*subject.summands()).tolist()


if __name__ == "__main__":
    content = {
        "omega": {scale: omegas(scale) for scale in SCALES},
        "sums": {
            form: {scale: sums(scale, form == "trained") for scale in SCALES}
            for form in ("constant", "trained")
        },
    }
    save("admin-torch", {**made(SOURCE, NOTES), **content})
