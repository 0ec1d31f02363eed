"""Report what differs between a checkpoint and the model that is to load it.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``Trainer.load_checkpoint``): resuming ends with
a traceback and "please ensure that the architectures match", whatever differs. Translating with
other dictionaries (``checkpoint_utils.load_model_ensemble_and_task``) ends with torch's list of
mismatched shapes.
"""

from __future__ import annotations

import functools
import re
from argparse import Namespace
from typing import Any, Callable, Iterator, Mapping, Optional

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from torch import Tensor

from admin_fairseq.bounds import spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import reading

SAID = "please ensure that the architectures match"
SHAPING = re.compile(
    r"init_type|activation_fn|adaptive_softmax_cutoff|layernorm_embedding|omega_trainable|share_.*|"
    r"subln_in_encoder_attention|no_(token_positional_embeddings|decoder_final_norm|scale_.*)|"
    r"(encoder|decoder)_(layers|.*embed_dim|(in|out)put_dim|learned_pos|normalize_before)|"
    r"max_((source|target)_)?positions|tokens_per_sample"
)
"""Matches the names of options that determine the names and shapes of weights."""

DICTIONARIES = {
    "encoder.embed_tokens.weight": "source",
    "decoder.embed_tokens.weight": "target",
}
OTHER_SIZE = re.compile(
    r"size mismatch for (\S*(?:embed_tokens|output_projection)\.weight): copying a param with "
    r"shape torch\.Size\(\[(\d+), \d+\]\) from checkpoint, .* torch\.Size\(\[(\d+), \d+\]\)"
)
MOST_NAMED = 5


def apply() -> None:
    """Patch fairseq to report in one line which options or dictionaries differ.

    Any architecture is covered, not only the plugin's.
    """
    Trainer.load_checkpoint = _reporting(Trainer.load_checkpoint)
    checkpoint_utils.load_model_ensemble_and_task = _blaming_the_data(
        checkpoint_utils.load_model_ensemble_and_task
    )


def _blaming_the_data(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``load_model_ensemble_and_task`` to raise AdminError if the dictionaries do not fit.

    This function builds models with the checkpoint's options, so that only dictionaries can differ.
    """

    @functools.wraps(load)
    def load_model_ensemble_and_task(filenames: list[str], *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filenames, *args, **kwargs)
        except RuntimeError as error:
            sizes = OTHER_SIZE.search(str(error))
            if sizes is None:
                raise
            name, there, here = sizes.groups()
            raise AdminError(
                f"{', '.join(filenames)}: does not fit the dictionaries of this data: {name} had "
                f"{int(there):,} types in training, now {int(here):,}; "
                "use the data folder of training"
            ) from None

    return load_model_ensemble_and_task


def _reporting(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Trainer.load_checkpoint`` to raise an AdminError that names the differing options.

    The AdminError replaces fairseq's "please ensure that the architectures match".
    """

    @functools.wraps(load)
    def load_checkpoint(self: Trainer, filename: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(self, filename, *args, **kwargs)
        except Exception as error:
            if SAID not in str(error):
                raise
            if isinstance(error.__context__, AdminError):  # raised by a layer, with the reason
                raise error.__context__ from None
            model = self.get_model()
            raise _unfit(filename, self.cfg.model, model.state_dict()) from None

    return load_checkpoint


def _unfit(path: str, model: Any, weights: Mapping[str, Tensor]) -> AdminError:
    """Return the AdminError for the checkpoint at ``path``, which does not fit the model.

    ``model`` and ``weights`` are the model's options and state dict, to compare with the
    checkpoint's.
    """
    state = reading.read(path)
    found = [
        *_differing_dictionaries(state["model"], weights),
        *_differing_options(_model_of(state), model),
    ]
    found = found or [_differing_weight(state["model"], weights)]
    named, more = found[:MOST_NAMED], len(found) - MOST_NAMED
    differences = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
    return AdminError(
        f"{path}: does not fit the model: {differences}; use the checkpoint's options and data, "
        "or choose another --save-dir to start again"
    )


def _model_of(state: Mapping[str, Any]) -> Any:
    """Return the model's options in a checkpoint of today's format or of fairseq 0.9's."""
    return (state.get("cfg") or {}).get("model") or state.get("args")


def _plain(options: Any) -> dict[str, Any]:
    """Convert ``options`` to a dictionary; ``_name`` or ``arch`` is the architecture."""
    if OmegaConf.is_config(options):
        options = OmegaConf.to_container(options, resolve=True, enum_to_str=True)
    if isinstance(options, Namespace):
        options = vars(options)
    return {name: _comparable(value) for name, value in (options or {}).items()}


def _comparable(value: Any) -> Any:
    """Return numbers, truth values and None unchanged, and all other values as text."""
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _differing_options(checkpoint: Any, model: Any) -> Iterator[str]:
    """Yield a description of each option that shapes the weights and differs from the checkpoint's.

    ``checkpoint`` and ``model`` are the model's options in the checkpoint and in this run.
    """
    theirs, ours = _plain(checkpoint), _plain(model)
    there, here = (side.get("_name") or side.get("arch") for side in (theirs, ours))
    if there != here:
        yield f"--arch is {there} in the checkpoint, {here} in this run"
    for name in sorted(set(theirs) & set(ours)):
        if SHAPING.fullmatch(name) and theirs[name] != ours[name]:
            yield f"{spelled(name)} is {theirs[name]} in the checkpoint, {ours[name]} in this run"


def _differing_dictionaries(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]
) -> Iterator[str]:
    """Yield a description of each dictionary whose size differs, judged by its embedding table.

    ``theirs`` are the checkpoint's weights, ``ours`` the model's.
    """
    for name, side in DICTIONARIES.items():
        there, here = (len(side[name]) if name in side else None for side in (theirs, ours))
        if there and here and there != here:
            yield f"the {side} dictionary had {there:,} types in training, now {here:,}"


def _differing_weight(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """Describe the first weight that is missing or has another shape, if no option explains it.

    ``theirs`` are the checkpoint's weights, ``ours`` the model's.
    """
    for name in sorted(set(theirs) | set(ours)):
        there, here = (_shape(side.get(name)) for side in (theirs, ours))
        if there != here:
            return f"{name} is {there} in the checkpoint, {here} in the model"
    return "the checkpoint lacks weights that the model or its criterion needs"


def _shape(weight: Optional[Tensor]) -> str:
    """Return the weight's shape as text, or "missing"."""
    return "missing" if weight is None else str(list(weight.shape))
