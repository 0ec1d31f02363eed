"""DeepNorm and Sub-LN: https://github.com/microsoft/torchscale, its own translation example.

It needs einops and fairscale on the path; timm, for layers that are left out at random, is stood in
for. Its ``tests`` folder hides ours unless ours comes first on the path, as with ``python -m``.
"""

import sys
from pathlib import Path
from types import ModuleType

import torch

from .. import subject
from .common import Authors, Source, arguments, fairseqs_logits, fairseqs_parameters, task, write

SOURCE = Source(
    "microsoft/torchscale",
    "4d1e0e82e5adf86dd424f1463192635b73fc8efc",
    [
        "examples/fairseq/models/machine_translation.py",
        "torchscale/architecture/encoder.py",
        "torchscale/architecture/decoder.py",
        "torchscale/component/multihead_attention.py",
    ],
)
NOTES = (
    "Nothing calls MultiheadAttention.reset_parameters, so linear maps start from torch's default "
    "U(±1/√fan_in), times the scheme's gain, biases too; the papers have Xavier's normal "
    "distribution times the gain. 'gains' are the ratios to the same draw without the scheme. "
    "Softmax and ReLU take float32. With Sub-LN, encoder-decoder attention has no inner norm and "
    "no gain, and decoder_normalize_before is set beside subln, which the example leaves False. "
    "Patched: the rank in distributed training is 0, and timm's drop_path, of which the models "
    "have none, is absent."
)
BRANCHES = {"encoder": ["self_attn", "ffn"], "decoder": ["self_attn", "encoder_attn", "ffn"]}
LINEAR = (".q_proj.", ".k_proj.", ".v_proj.", ".out_proj.", ".fc1.", ".fc2.")


def translation():
    """The example's module, without its sister modules that today's fairseq cannot load."""
    import torchscale

    folder = Path(torchscale.__file__).parents[1] / "examples" / "fairseq" / "models"
    layers = ModuleType("timm.models.layers")
    layers.drop_path = None
    models = ModuleType("models")
    models.__path__ = [str(folder)]
    found = {"timm": ModuleType("timm"), "timm.models": ModuleType("timm.models")}
    sys.modules.update({**found, "timm.models.layers": layers, "models": models})
    from models import machine_translation

    machine_translation.distributed_utils.get_data_parallel_rank = lambda: 0
    return machine_translation


def build(depths, sizes, types, shared, **scheme):
    model = translation().TranslationModel
    return model.build_model(arguments(model, depths, sizes, shared, **scheme), task(types))


def rename(name):
    name = name.replace("self_attn.inner_attn_ln", "self_attn.out_proj.before")
    return name.replace("ffn.ffn_layernorm", "fc2.before").replace("ffn.fc", "fc")


def parameters(model):
    """And DeepNorm's α, a number in every layer."""
    found = fairseqs_parameters(model, rename)
    assert len(found) == len(list(model.parameters()))
    if not model.args.deepnorm:
        return found
    for stack, branches in BRANCHES.items():
        for number, layer in enumerate(getattr(model, stack).layers):
            residuals = f"{stack}.layers.{number}.residuals"
            alpha = torch.tensor([layer.alpha])
            found |= {f"{residuals}.{branch}.omega": alpha.clone() for branch in branches}
    return found


def gains(depths, **scheme):
    """Our name without the layer's number → what the scheme multiplies the draw by."""

    def drawn(**options):
        torch.manual_seed(1)
        model = build(depths, subject.DRAWN, subject.TYPES_DRAWN, False, **options)
        return fairseqs_parameters(model, rename)

    plain, with_scheme = drawn(), drawn(**scheme)
    found = {}
    for name, value in plain.items():
        if any(part in name for part in LINEAR):
            ratio = (with_scheme[name] / value)[value.abs() > 1e-3].double()
            assert ratio.max() - ratio.min() < 1e-5
            (pooled_name,) = subject.pooled({name: value})
            gain = float(f"{ratio.mean():.7g}")
            assert abs(found.setdefault(pooled_name, gain) - gain) < 1e-6
    return found


def make(name, ours, **scheme):
    authors = Authors(
        SOURCE,
        lambda *model: build(*model, **scheme),
        parameters,
        fairseqs_logits,
        notes=NOTES,
        constants=["omega"] if "deepnorm" in scheme else [],
    )
    found = {"-".join(map(str, depths)): gains(depths, **scheme) for depths in subject.DEPTHS}
    write(name, authors, scheme=ours, gains=found)


if __name__ == "__main__":
    make("deepnet_torchscale", "deepnet", deepnorm=True)
    # this option by itself, in the example, leaves the decoder's layers Post-LN
    make("subln", "subln", subln=True, decoder_normalize_before=True)
