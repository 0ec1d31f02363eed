"""Models with every weight moved from its start, as after training."""

import pytest
import torch

from admin_fairseq.config import AdminTransformerConfig, resolve

from ..conftest import held


def move(model, seed=0):
    """Every ω and α elementwise different, norms and biases away from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)

    def noise(weight):
        return torch.randn(weight.shape, generator=generator)

    with torch.no_grad():
        for name, weight in held(model).items():
            if ".residuals." in name:
                weight.copy_(1.5 + 0.4 * noise(weight))
            elif weight.dim() == 1:
                weight.add_(0.2 * noise(weight))
    return model.eval()


@pytest.fixture
def trained(build):
    """trained("admin_transformer_tiny", **options) → (model, its options as a checkpoint has)."""

    def trained(arch="admin_transformer_tiny", dtype=torch.float64, seed=0, **options):
        torch.manual_seed(seed)
        model = move(build(arch, **options), seed).to(dtype)
        return model, vars(resolve(AdminTransformerConfig(_name=arch, **options)))

    return trained
