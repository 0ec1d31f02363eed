"""Admin's ω, as the release's first pass and ours measure it on the same batch."""

import pytest
import torch

from admin_fairseq.hooks.recorder import Recorder, pooled_omegas, residual_sites
from admin_fairseq.layers.transformer_stack import on_reference_kernels

from . import numbers, subject
from .test_schemes import build

OMEGAS = numbers("adaptive")["omega"]
"""Of the encoder's sub-layers, then of the decoder's, as they run."""


def test_omegas_are_the_releases():
    """On a batch with padding, whose positions both sides count.

    The release measures in float32; so it is its rounding that stands between the two.
    """
    depths, sizes = subject.DEPTHS_COMPUTED, subject.COMPUTED
    model = build("adaptive", depths, sizes, subject.TYPES_COMPUTED, True).double().train()
    recorder = Recorder(residual_sites(model))
    with torch.no_grad(), on_reference_kernels(model), recorder.batch():
        for name, parameter in model.named_parameters():
            if not name.endswith(".omega"):
                parameter.copy_(subject.weights(name, tuple(parameter.shape)))
        model.encoder.embed_tokens.weight[subject.PAD] = 0  # as fairseq draws and keeps it
        model(subject.SOURCE, subject.LENGTHS, subject.PREVIOUS)
    sites = list(recorder.sites)
    assert len(sites) == len(OMEGAS)
    assert pooled_omegas(sites, recorder.variances()) == pytest.approx(OMEGAS, rel=1e-6)
    in_place = [residual.omega.unique().item() for residual in recorder.sites.values()]
    assert in_place == pytest.approx(OMEGAS, rel=1e-6)
