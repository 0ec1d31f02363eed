"""State-dict keys, options and commands are a contract: what contract.json lists stays.

What is new is put to it by ``python -m tests.test_contract``; what goes is named in CHANGELOG.md.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

from fairseq.data import Dictionary
from fairseq.models import build_model

from admin_fairseq import cli
from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import CONFIGS as CONFIGS_OF_MODELS
from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import ChunkedConfig
from admin_fairseq.lr_scheduler.inverse_sqrt_nowarmup import InverseSqrtNoWarmupConfig
from admin_fairseq.lr_scheduler.linear import LinearScheduleConfig
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.schemes import SCHEMES

FILE = Path(__file__).with_name("contract.json")
CONFIGS = (
    *CONFIGS_OF_MODELS.values(),
    AdamOptions,
    ChunkedConfig,
    InverseSqrtNoWarmupConfig,
    LinearScheduleConfig,
)


def keys_of(model):
    """The state dict's keys and sizes; layers, which are alike, once."""
    found = {}
    for name, tensor in model.state_dict().items():
        found.setdefault(re.sub(r"\.layers\.\d+\.", ".layers.*.", name), list(tensor.shape))
    return [f"{name} {'x'.join(map(str, size))}" for name, size in sorted(found.items())]


def words_of(parser):
    """The options and arguments of a command, those of its subcommands too."""
    words = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                words += [f"{name} {word}" for word in words_of(subparser)]
        else:
            words += action.option_strings or [action.dest]
    return sorted(set(words))


def contract():
    return {
        "architectures": sorted(ARCHITECTURES),
        "schemes": list(SCHEMES),
        "options": {kind.__name__: sorted(f.name for f in fields(kind)) for kind in CONFIGS},
        "commands": words_of(cli._parser()),
        "state dict": {kind: state_dicts(kind) for kind in CONFIGS_OF_MODELS},
    }


def state_dicts(kind):
    """Scheme → its keys, as those that it has beside the default's (+) and lacks of them (-)."""
    default, *others = SCHEMES
    keys = {scheme: keys_of(build(kind, init_type=scheme)) for scheme in SCHEMES}
    plain = set(keys[default])
    found = {default: keys[default]}
    for scheme in others:
        own = set(keys[scheme])
        marked = [f"+ {key}" for key in own - plain] + [f"- {key}" for key in plain - own]
        found[scheme] = sorted(marked)
    return found


def build(kind, **options):
    dictionary = Dictionary()
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    config = CONFIGS_OF_MODELS[kind]
    sizes = {field.name: 2 for field in fields(config) if field.name.endswith("coder_layers")}
    return build_model(config(_name=f"{kind}_tiny", **sizes, **options), task)


def test_what_others_rely_on_is_as_it_was():
    """An entry that is new: run ``python -m tests.test_contract``."""
    found, recorded = contract(), json.loads(FILE.read_text())
    assert found.keys() == recorded.keys()
    for part, entries in recorded.items():
        assert found[part] == entries, part


if __name__ == "__main__":
    FILE.write_text(json.dumps(contract(), indent=1) + "\n")
