"""Make the YAML files of ``admin-fairseq configs``, for fairseq-hydra-train: one for each published
run, and the files that these refer to.

Hydra composes a configuration before it imports the plugin, so it needs a file for each
architecture, optimiser and learning rate scheduler of the plugin too. The file of a run ("row" of a
published table) is a primary configuration: in hydra 1.0 (fairseq 0.12.2) only such a file can have
a defaults list, and the files in the list override it. Hence ``_self_`` comes first, in hydra 1.3
too, and the file of a run has only the settings that ``base/published.yaml`` does not have.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import fields
from typing import Any, Iterator, Mapping

import yaml

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import CONFIGS
from admin_fairseq.recipes.published import HALF, PUBLISHED
from admin_fairseq.recipes.recipe import Published, Recipe, Row, Settings
from admin_fairseq.recipes.settings import EVERYWHERE, kept, languages_of, model_of

MADE = "# Made by admin-fairseq configs."
WIDTH = 100  # characters of a line
NO_BREAK = "\N{NO-BREAK SPACE}"
LISTS = ("optimization.lr", "optimization.update_freq")
"""Settings that fairseq stores as lists, with a value for each epoch."""
SECTIONS = (
    *("common", "task", "model", "optimizer", "lr_scheduler", "optimization"),
    *("dataset", "distributed_training", "criterion", "checkpoint", "hydra"),
)

ABOUT_BASE = """What all published runs have in common.

  fairseq-hydra-train --config-dir configs/wmt14_en_de --config-name admin_18l_18l \\
      task.data=DATA_BIN checkpoint.save_dir=DIR

Fewer GPUs than published: distributed_training.distributed_world_size=1, and as many times more
batches in optimization.update_freq. A look on the CPU: also common.cpu=true common.fp16=false.

Of the model, null is what the architecture says; it stands here so that the command line can change
it. Hydra would move into a folder of its own, where a relative DATA_BIN is not found."""
SIZES = ("embed_dim", "ffn_embed_dim", "attention_heads")
BASE: Settings = {
    **EVERYWHERE,
    "task.data": "???",
    "model.profile_path": None,
    "model.profile_batches": 1,
    "model.output_change_scale": "O(logn)",
    **{f"model.{stack}_{size}": None for stack in ("encoder", "decoder") for size in SIZES},
    "model.activation_fn": None,
    "hydra.run": {"dir": "."},
}
DEFAULTS: Settings = {
    "model.omega_trainable": False,
    "model.attention_dropout": 0.0,
    "model.activation_dropout": 0.0,
}
"""fairseq's defaults for options that a recipe does not set. The files list them too, so that
hydra's command line can change them without a +."""

MODEL_OPTIONS = (
    *("init_type", "profile_path", "profile_batches", "output_change_scale", "omega_trainable"),
    *("branchnorm_updates", "encoder_layers", "decoder_layers"),
    *(f"{stack}_{size}" for stack in ("encoder", "decoder") for size in SIZES),
    *("dropout", "attention_dropout", "activation_dropout", "activation_fn"),
    *("encoder_normalize_before", "decoder_normalize_before", "share_all_embeddings"),
    *("share_decoder_input_output_embed", "bert_init"),
)
"""Model options that the files list, so that hydra's command line can change them without a +."""
ADAM = {"adam_betas": "(0.9, 0.98)", "adam_eps": 1e-8, "weight_decay": 0.0}
GROUPS: dict[str, Mapping[str, Any]] = {
    "optimizer/radam": ADAM,
    "optimizer/adam_fused": ADAM,
    "optimizer/novograd": ADAM,
    "lr_scheduler/linear": {"warmup_updates": 0, "warmup_init_lr": 0.0, "min_lr": 0.0},
    "lr_scheduler/inverse_sqrt_nowarmup": {"decay_period": 4000},
}


def config_files() -> dict[str, str]:
    """Return the text of every configuration file, by its path below the configuration folder."""
    files = {f"{name}.yaml": _group(name.split("/")[1], GROUPS[name]) for name in GROUPS}
    for name in ARCHITECTURES:
        files[f"model/{name}.yaml"] = _group(name, _model_options(name))
    return {**files, **row_files()}


def row_files() -> dict[str, str]:
    """Return the text of base/published.yaml and of the file of each published run, by path."""
    base = _comment(ABOUT_BASE) + _sections(BASE)
    return {"base/published.yaml": f"# @package _global_\n{MADE}\n{base}", **dict(_rows())}


def _group(name: str, options: Mapping[str, Any]) -> str:
    """Return the text of the file that hydra reads for ``model=NAME``, ``optimizer=NAME`` or
    ``lr_scheduler=NAME``."""
    content = yaml.safe_dump({"_name": name, **options}, sort_keys=False)
    return f"# @package _group_\n{MADE} null: what the architecture says\n{content}"


def _model_options(architecture: str) -> dict[str, Any]:
    """Return the model options that an architecture's file lists, with their defaults.

    They are ``MODEL_OPTIONS`` and those that fairseq copies from the task.
    """
    config = CONFIGS[ARCHITECTURES[architecture].model]
    known = {option.name: option.default for option in fields(config)}
    names = [name for name in MODEL_OPTIONS if name in known]
    names += [name for name, default in known.items() if str(default).startswith("${task.")]
    return {name: known[name] for name in names}


def _rows() -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the configuration file of each published run."""
    for dataset, published in PUBLISHED.items():
        for recipe in published.recipes:
            for row in recipe.rows:
                head = f"{MADE}\n{_comment(recipe.about)}{_comment(row.about)}"
                defaults = "defaults:\n  - _self_\n  - ../base: published\n"
                settings = _sections(_settings(dataset, published, recipe, row))
                yield f"{dataset}/{row.name}.yaml", f"{head}{defaults}\n{settings}"


def _settings(dataset: str, published: Published, recipe: Recipe, row: Row) -> Settings:
    """Return the settings of a published run except the ones in ``BASE``, which all runs share."""
    size = published.size if row.size is None else row.size
    chosen = {**recipe.settings, **row.but}
    return {
        "common.seed": recipe.seeds[0],
        **{key: recipe.half.get(key) for key in HALF},
        **recipe.half,
        **languages_of(dataset),
        **model_of(row.scheme, size, row.layers),
        **chosen,
        **{key: value for key, value in DEFAULTS.items() if key not in chosen},
        "optimization.update_freq": recipe.batch.update_freq,
        "dataset.max_tokens": recipe.batch.max_tokens,
        "distributed_training.distributed_world_size": recipe.batch.gpus,
        **kept(recipe.decoding),
    }


def _sections(settings: Settings) -> str:
    """Write settings as YAML: a mapping in braces for each section, on one line if it fits."""
    nested: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = [value] if key in LISTS else value
    order = sorted(nested, key=SECTIONS.index)
    return "".join(_section(section, nested[section]) for section in order)


def _section(section: str, values: dict[str, Any]) -> str:
    """Write one section as a YAML mapping in braces, ``_name`` first; break long lines only between
    options."""
    ordered = sorted(values, key=lambda name: name != "_name")
    options = [_option(name, values[name]).replace(" ", NO_BREAK) for name in ordered]
    text = f"{section}:{NO_BREAK}{{{', '.join(options)}}}"
    lines = textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines).replace(NO_BREAK, " ") + "\n"


def _option(name: str, value: Any) -> str:
    """Write ``name: value`` as YAML, without the braces."""
    return yaml.safe_dump({name: value}, default_flow_style=True, width=math.inf).strip()[1:-1]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)


def _comment(text: str) -> str:
    """Wrap ``text`` into YAML comment lines; keep the lines of a paragraph that begins with a
    space, such as a command."""
    paragraphs = text.strip("\n").split("\n\n") if text else []
    lines: list[str] = []
    for paragraph in paragraphs:
        kept = paragraph.startswith(" ")
        lines += ["", *(paragraph.split("\n") if kept else _wrapped(paragraph))]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines[1:])
