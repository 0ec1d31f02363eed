"""Admin's first release, a fork of fairseq 0.8, with its optimisers and schedules beside it.

https://github.com/LiyuanLucasLiu/Transformer-Clinic; both of its folders are needed:

    PYTHONPATH=Transformer-Clinic/fairseq:Transformer-Clinic python -m tests.authors.makers.clinic
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any, Iterator
from unittest.mock import patch

import torch
from torch import Tensor, nn

from .. import subject
from .common import (
    Authors,
    Source,
    arguments,
    fairseqs_logits,
    fairseqs_parameters,
    made,
    save,
    task,
    write,
)

PROFILE = "profile.ratio.init"  # read and written in the working directory
UPDATES_SCHEDULED = 30
RATE = 0.01  # of the optimisers

OURS = {
    "encoder": {"attention_ratio_change": "self_attn", "fc_ratio_change": "ffn"},
    "decoder": {
        "self_ratio_change": "self_attn",
        "encoder_ratio_change": "encoder_attn",
        "fc_ratio_change": "ffn",
    },
}
"""Stack → their name of ω → our name of the sub-layer."""

UNREACHABLE = (
    "At this commit an assertion (init_type == 'default') in the layers keeps the release from "
    "building this; init_type was made to pass it."
)


def source(*files: str) -> Source:
    repository = "LiyuanLucasLiu/Transformer-Clinic"
    return Source(repository, "70f72b708ab074db5ca3726494e3263516041159", files)


LAYERS = source("fairseq/fairseq/modules/transformer_layer.py")


class PassesForDefault(str):
    """An init_type that the layers' assertion takes for 'default', and nothing else does."""

    def __eq__(self, other: object) -> bool:
        return other == "default" or str.__eq__(self, other)

    __hash__ = str.__hash__


def build(
    init_type: str,
    depths: tuple[int, int],
    sizes: dict[str, int],
    types: int,
    shared: bool,
    **options: Any,
) -> nn.Module:
    """Where the scheme reads a profile it finds one of ones."""
    from fairseq.models.transformer import TransformerModel, base_architecture
    from fairseq.modules import transformer_layer

    # the release's state of one run
    transformer_layer.tmp_file = 0
    transformer_layer.encoder_ratio = transformer_layer.decoder_ratio = 1.0
    if init_type in ("rezero", "rezero_postln", "looklinear"):
        init_type = PassesForDefault(init_type)
    own = {"init_type": init_type, "fp16": False, **options}
    args = arguments(TransformerModel, depths, sizes, shared, **own)
    base_architecture(args)
    reads = init_type == "adaptive"
    with working_folder() if reads else contextlib.nullcontext():
        if reads:
            lines = [f"{number} 1.0\n" for number in numbers(depths)]
            Path(PROFILE).write_text("".join(lines))
        return TransformerModel.build_model(args, task(types))


def numbers(depths: tuple[int, int]) -> list[int]:
    """Those that the release gives to the sub-layers of each stack."""
    return [i + 1 for n, layers in zip((2, 3), depths) for i in range(n * layers)]


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def renamed(name: str) -> str:
    """Their ω, and the α that a layer's sub-layers share, by our names."""
    found = re.fullmatch(r"((en|de)coder)(\.layers\.\d+\.)(\w+)", name)
    if not found:
        return name
    stack, _, layer, last = found.groups()
    if last == "rezero_weight":
        return f"{stack}{layer}residuals.self_attn.alpha"
    return f"{stack}{layer}residuals.{OURS[stack][last]}.omega"


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """And DeepNorm's α, numbers of a layer."""
    found = fairseqs_parameters(model, renamed)
    assert sum(value.numel() for value in found.values()) == sum(
        value.numel() for value in model.parameters()
    )
    for stack, names in OURS.items():
        for number, layer in enumerate(getattr(model, stack).layers):
            for theirs in names if getattr(layer, "deepnet", False) else ():
                name = renamed(f"{stack}.layers.{number}.{theirs}")
                found[name] = torch.tensor([getattr(layer, theirs)])
    return found


def authors(init_type: str, notes: str = "", **options: Any) -> Authors:
    """``options`` have the same names here and there."""
    constants = ["omega"] if init_type == "deepnet" else []
    built = partial(build, init_type, **options)
    return Authors(LAYERS, built, parameters, fairseqs_logits, options, notes, constants)


# ---- the profile ----


def profiled() -> list[float]:
    """ω of the sub-layers in the order in which they run, from the file that the release writes.

    Weights are float32, as in the release: its encoder hands that to the decoder in training.
    """
    from fairseq.modules import transformer_layer

    with working_folder():
        depths = subject.DEPTHS_COMPUTED
        model = build("adaptive-profiling", depths, subject.COMPUTED, subject.TYPES_COMPUTED, True)
        named = parameters(model)
        with torch.no_grad():
            for name, value in named.items():
                if not name.endswith(".omega"):
                    value.copy_(subject.weights(name, tuple(value.shape)))
                if name.endswith("embed_tokens.weight"):
                    value[subject.PAD] = 0  # as fairseq draws and keeps it
        model.train()(subject.SOURCE, subject.LENGTHS, subject.PREVIOUS)
        transformer_layer.tmp_file.close()
        written = [line.split() for line in Path(PROFILE).read_text().splitlines()]
    assert [int(number) for number, _ in written] == numbers(depths)
    omegas = [float(omega) for _, omega in written]
    of_names = {name: value for name, value in named.items() if name.endswith(".omega")}
    assert len(of_names) == len(omegas)
    for omega, value in zip(omegas, of_names.values()):
        assert (value - omega).abs().max() < 1e-6
    return omegas


def mirrored() -> float:
    """How far a half of the FFN's hidden units is from the other one's mirror image, at most."""
    model = build("looklinear", subject.DEPTHS[0], subject.DRAWN, subject.TYPES_DRAWN, False)
    sums = [
        sum(value.chunk(2, dim=dim)).abs().max()
        for name, value in model.named_parameters()
        for dim, last in enumerate(("fc1.weight", "fc2.weight"))
        if name.endswith(last)
    ]
    assert len(sums) == 2 * sum(subject.DEPTHS[0])
    return float(max(sums))


# ---- optimisers ----


def stepped(optimizer: type[torch.optim.Optimizer], options: dict[str, Any]) -> list[list[float]]:
    """The weights after every step."""
    weights = nn.Parameter(subject.at_the_start())
    by = optimizer([weights], **options)
    found = []
    for step in range(1, subject.UPDATES + 1):
        weights.grad = subject.gradient(step)
        by.step()
        found.append(weights.tolist())
    return found


def optimiser(
    name: str, optimizer: type[torch.optim.Optimizer], file: str, notes: str = ""
) -> None:
    """Make NAME.json."""
    runs = []
    for betas in ((0.9, 0.98), (0.9, 0.999)):
        for weight_decay in (0.0, 0.01):
            options = {"lr": RATE, "betas": betas, "eps": 1e-8, "weight_decay": weight_decay}
            with patch.object(torch.Tensor, "float", torch.Tensor.double):
                weights = stepped(optimizer, options)
            as_it_is = torch.tensor(stepped(optimizer, options))
            assert (as_it_is - torch.tensor(weights)).abs().max() < 3e-6
            runs.append({"options": options, "weights": weights})
    rounding = (
        "Its .float() was made to keep float64; without that it gives the same but for rounding."
    )
    save(name, {**made(source(file), f"{notes} {rounding}".strip()), "runs": runs})


# ---- schedules ----


def rates(schedule: type, **options: Any) -> dict[str, Any]:
    """The rate before the first update, and after every one; fairseq asks for both."""
    from radam_fairseq.radam import FairseqRAdam

    args = Namespace(
        lr=[1e-3],
        max_update=UPDATES_SCHEDULED,
        adam_betas="(0.9, 0.98)",
        adam_eps=1e-8,
        weight_decay=0.0,
        **options,
    )
    optimizer = FairseqRAdam(args, [nn.Parameter(torch.zeros(1))])
    by = schedule(args, optimizer)
    found = []
    for update in range(UPDATES_SCHEDULED + 1):
        by.step_update(update)
        found.append(optimizer.get_lr())
    return {"options": {"lr": 1e-3, "max_update": UPDATES_SCHEDULED, **options}, "rates": found}


def schedules() -> None:
    from radam_fairseq.linear_schedule import LinearSchedule
    from radam_fairseq.poly_schedule import PolySchedule

    linear = partial(rates, LinearSchedule)
    runs = {
        "warm-up": linear(warmup_updates=10, warmup_init_lr=1e-7, min_lr=0.0),
        "warm-up, least rate": linear(warmup_updates=10, warmup_init_lr=1e-7, min_lr=1e-5),
        "warm-up from the default": linear(warmup_updates=10, warmup_init_lr=-1.0, min_lr=0.0),
        "recipe": linear(warmup_updates=1, warmup_init_lr=1e-7, min_lr=0.0),
        "recipe, least rate by default": linear(warmup_updates=1, warmup_init_lr=1e-7, min_lr=-1.0),
    }
    notes = (
        "'recipe' is the one without warm-up (nmt-experiments/iwslt14_de-en.md), where the "
        "release's --min-lr is its default, -1; 0 warm-up updates divide by zero there."
    )
    save("linear", {**made(source("radam_fairseq/linear_schedule.py"), notes), "runs": runs})
    powers = ((2.0, 0.0), (1.0, 1e-5), (3.5, 1e-4))
    polynomial = [rates(PolySchedule, poly_pow=power, min_lr=least) for power, least in powers]
    save("poly", {**made(source("radam_fairseq/poly_schedule.py")), "runs": polynomial})


if __name__ == "__main__":
    import fairseq.optim.adam
    from radam_fairseq.novograd import Novograd
    from radam_fairseq.radam import RAdam

    both_before = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    write("default", authors("default"))
    write("default_preln", authors("default", **both_before), scheme="default")
    note = (
        "\"omega\": the release's profile of this batch, in float32 and with padding's embedding "
        "0, encoder first. All else is with a profile of ones."
    )
    write("adaptive", authors("adaptive", note), omega=profiled())
    write("deepnet", authors("deepnet"))
    for name in ("rezero", "rezero_postln"):
        write(name, authors(name, UNREACHABLE))
    write("looklinear", authors("looklinear", UNREACHABLE), mirrored=mirrored())
    optimiser("radam", RAdam, "radam_fairseq/radam.py")
    unbuilt = "Its class for the command line cannot be built; this is torch's kind within it."
    optimiser("novograd", Novograd, "radam_fairseq/novograd.py", unbuilt)
    optimiser("adam", fairseq.optim.adam.Adam, "fairseq/fairseq/optim/adam.py")
    schedules()
