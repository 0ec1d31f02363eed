"""Report what differs between a checkpoint and the model that is to resume from it.

Seen in fairseq 0.12.2 and fairseq-fixed 0.12.3.1 (``Trainer.load_checkpoint``): a traceback that
ends with "please ensure that the architectures match", whatever differs. Translating with other
dictionaries (``checkpoint_utils.load_model_ensemble_and_task``) ends with torch's list of sizes.
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
    r"max_(source|target)_positions|tokens_per_sample"
)
"""Options that determine the names and shapes of weights."""

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
    """Let fairseq report in one line which options differ, whatever the architecture."""
    Trainer.load_checkpoint = _reporting(Trainer.load_checkpoint)
    checkpoint_utils.load_model_ensemble_and_task = _blaming_the_data(
        checkpoint_utils.load_model_ensemble_and_task
    )


def _blaming_the_data(load: Callable[..., Any]) -> Callable[..., Any]:
    """Models are built with the checkpoint's options, so that only dictionaries can differ."""

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
                f"{', '.join(filenames)}: does not fit the dictionaries of this data: {name} has "
                f"{int(there):,} types there, {int(here):,} here; use the data folder of training"
            ) from None

    return load_model_ensemble_and_task


def _reporting(load: Callable[..., Any]) -> Callable[..., Any]:
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
    """The error for a checkpoint that does not fit a model with these options and weights."""
    state = reading.read(path)
    found = [*_of_dictionaries(state["model"], weights), *_of_options(_model_of(state), model)]
    found = found or [_of_weights(state["model"], weights)]
    named, more = found[:MOST_NAMED], len(found) - MOST_NAMED
    differences = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
    return AdminError(
        f"{path}: does not fit the model: {differences}; use the checkpoint's options and data, "
        "or choose another --save-dir to start again"
    )


def _model_of(state: Mapping[str, Any]) -> Any:
    """The model's options in a checkpoint, in today's format or that of fairseq 0.9."""
    return (state.get("cfg") or {}).get("model") or state.get("args")


def _plain(options: Any) -> dict[str, Any]:
    """Option → value; ``_name`` or ``arch`` is the architecture."""
    if OmegaConf.is_config(options):
        options = OmegaConf.to_container(options, resolve=True, enum_to_str=True)
    if isinstance(options, Namespace):
        options = vars(options)
    return {name: _word(value) for name, value in (options or {}).items()}


def _word(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _of_options(checkpoint: Any, model: Any) -> Iterator[str]:
    theirs, ours = _plain(checkpoint), _plain(model)
    there, here = (side.get("_name") or side.get("arch") for side in (theirs, ours))
    if there != here:
        yield f"--arch is {there} there, {here} here"
    for name in sorted(set(theirs) & set(ours)):
        if SHAPING.fullmatch(name) and theirs[name] != ours[name]:
            yield f"{spelled(name)} is {theirs[name]} there, {ours[name]} here"


def _of_dictionaries(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> Iterator[str]:
    for name, side in DICTIONARIES.items():
        there, here = (len(side[name]) if name in side else None for side in (theirs, ours))
        if there and here and there != here:
            yield f"the {side} dictionary has {there:,} types there, {here:,} here"


def _of_weights(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """The first weight that is missing or has another shape, where no option explains it."""
    for name in sorted(set(theirs) | set(ours)):
        there, here = (_shape(side.get(name)) for side in (theirs, ours))
        if there != here:
            return f"{name} is {there} there, {here} here"
    return "it lacks what the model or its criterion needs"


def _shape(weight: Optional[Tensor]) -> str:
    return "missing" if weight is None else str(list(weight.shape))
