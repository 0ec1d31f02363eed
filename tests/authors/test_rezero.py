"""The encoder of ``rezero`` against the layers that its authors offer for PyTorch."""

import torch

from ..conftest import held
from . import numbers, subject


def test_encoder(build):
    sizes = {f"encoder_{key}": value for key, value in subject.COMPUTED.items()}
    sizes |= {f"decoder_{key}": value for key, value in subject.COMPUTED.items()}
    layers = subject.DEPTHS_COMPUTED[0]
    model = build(init_type="rezero", encoder_layers=layers, **sizes).double().eval()
    x = subject.weights("input", (*reversed(subject.SOURCE.shape), model.cfg.encoder_embed_dim))
    padding = subject.SOURCE.eq(subject.PAD)
    with torch.no_grad():
        for name, parameter in held(model).items():
            parameter.copy_(subject.weights(name, tuple(parameter.shape)))
        for layer in model.encoder.layers:
            x = layer(x, padding)
    expected = torch.tensor(numbers("rezero_encoder")["output"], dtype=torch.float64)
    words = ~padding.t()
    torch.testing.assert_close(x[words], expected[words], rtol=1e-6, atol=1e-7)
