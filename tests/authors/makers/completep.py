"""CompleteP: https://github.com/EleutherAI/nanoGPT-mup, branch completep, a GPT-2."""

from torch import nn

from .. import subject
from .common import Source, made, save

SOURCE = Source("EleutherAI/nanoGPT-mup", "6f8bc3bdc744556141255f810a22387b2255b6c1", ["model.py"])
NOTES = (
    "'sums' is what a block makes of x, by exponent and multiplier, where norms, attention and "
    "FFN are the identity: (1 + a)² x, a being the factor of the branches."
)
MULTIPLIERS = (0.5, 1.0, 2.0, 3.0)


def sums(exponent, multiplier):
    from model import Block, GPTConfig

    config = GPTConfig(
        n_embd=8,
        n_head=2,
        depth_alpha_enabled=True,
        depth_multiplier=multiplier,
        depth_alpha_exp=exponent,
    )
    block = Block(config)
    block.ln_1 = block.ln_2 = block.attn = block.mlp = nn.Identity()
    return block(subject.summands()[0]).tolist()


if __name__ == "__main__":
    content = {
        "sums": {
            str(exponent): {
                str(multiplier): sums(exponent, multiplier) for multiplier in MULTIPLIERS
            }
            for exponent in (0.5, 1.0)
        }
    }
    save("completep", {**made(SOURCE, NOTES), **content})
