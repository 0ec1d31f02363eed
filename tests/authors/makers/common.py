"""How the authors' models are run, and what is written down of them."""

from __future__ import annotations

import builtins
import json
import platform
import re
from argparse import SUPPRESS, ArgumentParser, Namespace
from types import MappingProxyType
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .. import NUMBERS, subject

for alias in ("float", "int", "bool"):  # gone since numpy 1.24
    if not hasattr(np, alias):  # numpy 2 has a bool again, its own
        setattr(np, alias, getattr(builtins, alias))


class Source(NamedTuple):
    repository: str
    commit: str
    files: Sequence[str]


class Authors(NamedTuple):
    """A scheme in its authors' code."""

    source: Source
    build: Callable[..., nn.Module]  # build(depths, sizes, types, shared) in float32, no dropout
    parameters: Callable[[nn.Module], dict[str, Tensor]]
    """Our name → the tensor, or the part of one, that stands there; numbers as tensors."""
    logits: Callable[[nn.Module], Tensor]  # of subject's batch, B x T x V
    options: Mapping[str, Any] = MappingProxyType({})  # those that our model needs to be the same
    notes: str = ""
    constants: Sequence[str] = ()  # last parts of names that stay as they were built
    ours_alone: Sequence[str] = ()  # patterns of names: of what they lack, neutral when compared
    theirs_alone: Sequence[str] = ()  # of what we lack, neutral as it is built


def write(name: str, authors: Authors, **more: Any) -> None:
    """Make NAME.json, of our scheme NAME unless ``more`` has another "scheme"."""
    logits, tied = computed(authors)
    content = {
        **made(authors.source, authors.notes),
        "options": dict(authors.options),
        "constants": list(authors.constants),
        "ours_alone": list(authors.ours_alone),
        "theirs_alone": list(authors.theirs_alone),
        "tied": tied,
        "start": {"-".join(map(str, depths)): start(authors, depths) for depths in subject.DEPTHS},
        "start_shared": start(authors, subject.DEPTHS[-1], shared=True),
        "logits": logits.tolist(),
        **more,
    }
    save(name, content)


def computed(authors: Authors) -> tuple[Tensor, dict[str, str]]:
    """Logits with subject's weights, and what is tied for that (``several_names``)."""
    model = authors.build(
        subject.DEPTHS_COMPUTED, subject.COMPUTED, subject.TYPES_COMPUTED, True
    ).double()
    model.eval()
    with torch.no_grad():
        parameters = authors.parameters(model)
        tied = several_names(parameters)
        for parameter, value in parameters.items():
            left = subject.among(parameter, authors.theirs_alone) or parameter in tied
            if not left and not parameter.endswith(tuple(authors.constants) or ("none",)):
                value.copy_(subject.weights(parameter, tuple(value.shape)))
        return authors.logits(model), tied


def start(
    authors: Authors, depths: tuple[int, int], shared: bool = False
) -> dict[str, list[float]]:
    """Weights as they are drawn, embeddings apart or ``shared`` by all."""
    torch.manual_seed(1)
    model = authors.build(depths, subject.DRAWN, subject.TYPES_DRAWN, shared)
    return subject.pooled(authors.parameters(model))


def several_names(parameters: dict[str, Tensor]) -> dict[str, str]:
    """Our names whose parameter is theirs of an earlier name → that name."""
    first: dict[int, str] = {}
    return {
        name: first[id(value)]
        for name, value in parameters.items()
        if first.setdefault(id(value), name) != name
    }


def made(source: Source, notes: str = "") -> dict[str, Any]:
    python, numpy = platform.python_version(), np.__version__
    versions = f"Python {python}, torch {torch.__version__.split('+')[0]}, numpy {numpy}"
    return {**source._asdict(), "made_with": versions, "notes": notes}


def save(name: str, content: dict[str, Any]) -> None:
    path = NUMBERS / f"{name}.json"
    text = json.dumps(content, indent=1, ensure_ascii=False)
    lists = r"\[[^][]+\]"  # those without lists in them stand on one line
    text = re.sub(lists, lambda found: " ".join(found[0].split()), text)
    path.write_text(text.replace("[ ", "[").replace(" ]", "]") + "\n")
    print(path)


# ---- forks of fairseq ----


def dictionary(types: int) -> Any:
    """One with ``types`` words beside fairseq's symbols."""
    from fairseq.data import Dictionary

    made = Dictionary()
    for i in range(types):
        made.add_symbol(f"word{i}")
    return made


def task(types: int) -> Namespace:
    both = dictionary(types)
    return Namespace(source_dictionary=both, target_dictionary=both)


def arguments(
    model: Any, depths: tuple[int, int], sizes: dict[str, int], shared: bool, **options: Any
) -> Namespace:
    """The command line of a fork's ``model``: these sizes, no dropout, and its own defaults."""
    parser = ArgumentParser(argument_default=SUPPRESS)  # as fairseq does: architectures fill in
    model.add_args(parser)
    named = {f"{s}_{key}": value for s in ("encoder", "decoder") for key, value in sizes.items()}
    layers = dict(zip(("encoder_layers", "decoder_layers"), depths))
    rates = dict.fromkeys(("dropout", "attention_dropout", "relu_dropout", "activation_dropout"), 0)
    given = {**named, **layers, **rates, "share_all_embeddings": shared, **options}
    return parser.parse_args([], Namespace(**given))


def fairseqs_parameters(
    model: nn.Module, rename: Optional[Callable[[str], str]] = None
) -> dict[str, Tensor]:
    """Those of a fork of fairseq, q, k and v one by one, by our names."""
    found = {}
    for name, value in model.named_parameters():
        name = name.replace("decoder.embed_out", "decoder.output_projection.weight")
        name = re.sub(r"\.([qkv])_proj_weight$", r".\1_proj.weight", name)
        name = rename(name) if rename else name
        if ".in_proj_" in name:
            prefix, kind = name.split("in_proj_")
            found |= {f"{prefix}{p}_proj.{kind}": v for p, v in zip("qkv", value.chunk(3))}
        else:
            found[name] = value
    return found


def fairseqs_logits(model: nn.Module) -> Tensor:
    return model(subject.SOURCE, subject.LENGTHS, subject.PREVIOUS)[0]
