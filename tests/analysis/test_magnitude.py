"""Magnitudes by hand."""

import pytest
import torch
from torch import nn

from admin_fairseq.analysis.studies.magnitude import _factor


def test_factor_by_hand():
    # √4 / ‖(3, 0, 4, 0)‖ = 2/5, √4 / ‖(1, 1, 1, 1)‖ = 1
    assert _factor(torch.tensor([[3.0, 0, 4, 0], [1, 1, 1, 1]])) == pytest.approx(0.7)


def test_factor_bounds_the_backward_pass_of_layer_norm():
    """For a token of mean zero it is the largest singular value of the Jacobian itself."""
    x = torch.randn(64, generator=torch.Generator().manual_seed(1)).double() * 7
    x = x - x.mean()
    norm = nn.LayerNorm(64, eps=0).double()
    jacobian = torch.autograd.functional.jacobian(norm, x)
    assert float(torch.linalg.matrix_norm(jacobian, 2)) == pytest.approx(_factor(x[None]))
