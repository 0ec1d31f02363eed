"""LayerNorm Scaling: https://github.com/lmsdss/LayerNorm-Scaling, a LLaMA.

Their environment variable NORM_TYPE is made lower-case and then compared with "LNS", which it never
equals: as published, the layer returns its input. Here ``lower`` leaves it as it is.
"""

import os
from unittest.mock import patch

from torch import nn

from .. import subject
from .common import Source, made, save

SOURCE = Source(
    "lmsdss/LayerNorm-Scaling",
    "3ac54dde961b04780b152bc8b38b71b2f8e1c16a",
    ["peft_pretraining/modeling_llama.py"],
)
NOTES = (
    "'sums' is what a layer makes of x, by its number from 1, with the identity in place of norms, "
    "attention and FFN: (1 + c)² x, c being the factor of the norms' outputs."
)


class Attention(nn.Identity):
    def forward(self, hidden_states, **how):
        return hidden_states, None, None


class Unchanged(str):
    def lower(self):
        return self


def sums(layer):
    from peft_pretraining.modeling_llama import LlamaDecoderLayer
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=8, intermediate_size=12, num_attention_heads=2)
    config.num_hidden_layers = 18
    with patch.object(os, "getenv", lambda name, default=None: VARIABLES.get(name, default)):
        built = LlamaDecoderLayer(config, layer - 1)
        built.self_attn, built.mlp = Attention(), nn.Identity()
        built.input_layernorm = built.post_attention_layernorm = nn.Identity()
        return built(x())[0].flatten().tolist()


def x():
    return subject.summands()[0].unsqueeze(0)


VARIABLES = {"NORM_TYPE": Unchanged("LNS")}

if __name__ == "__main__":
    content = {"sums": {str(layer): sums(layer) for layer in range(1, 19)}}
    save("lns", {**made(SOURCE, NOTES), **content})
