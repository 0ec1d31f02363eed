"""ReZero's own encoder layers, for PyTorch: https://github.com/majumderb/rezero."""

import torch

from .. import subject
from .common import Source, made, save

SOURCE = Source(
    "majumderb/rezero",
    "e2c94a825c5564217e8cf4d75a28d59cab1d7029",
    ["rezero/transformer/rztx.py"],
)
NOTES = "What a stack of RZTXEncoderLayer makes of an input, by our names of its parameters."
RENAMED = {"linear1": "fc1", "linear2": "fc2", "resweight": "residuals.self_attn.alpha"}


def stack():
    from rezero.transformer import RZTXEncoderLayer

    dim, ffn, heads = subject.COMPUTED.values()
    layers = subject.DEPTHS_COMPUTED[0]
    return [RZTXEncoderLayer(dim, heads, ffn, dropout=0.0) for _ in range(layers)]


def parameters(number, layer):
    """Our name → parameter."""
    found = {}
    for name, value in layer.named_parameters():
        for theirs, ours in RENAMED.items():
            name = name.replace(theirs, ours)
        if "in_proj_" in name:
            kind = name.split("in_proj_")[1]
            parts = zip("qkv", value.chunk(3))
            found |= {f"self_attn.{part}_proj.{kind}": values for part, values in parts}
        else:
            found[name] = value
    return {f"encoder.layers.{number}.{name}": value for name, value in found.items()}


@torch.no_grad()
def output():
    x = subject.weights("input", (*reversed(subject.SOURCE.shape), subject.COMPUTED["embed_dim"]))
    for number, layer in enumerate(stack()):
        assert not layer.resweight.any()
        layer.double()
        for name, value in parameters(number, layer).items():
            value.copy_(subject.weights(name, tuple(value.shape)))
        x = layer(x, src_key_padding_mask=subject.SOURCE.eq(subject.PAD))
    return x


if __name__ == "__main__":
    save("rezero_encoder", {**made(SOURCE, NOTES), "output": output().tolist()})
