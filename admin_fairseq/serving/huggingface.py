"""Export a checkpoint for Hugging Face: fold it, and write it as a class of transformers."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Iterator, NamedTuple

import torch
from fairseq.data import Dictionary
from fairseq.models.transformer import DEFAULT_MAX_TARGET_POSITIONS
from torch import Tensor, nn

from admin_fairseq.checkpoints import building, compare
from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.checkpoints.fold import POSITIONS, fold_checkpoint
from admin_fairseq.checkpoints.storage import Weights, model_options
from admin_fairseq.errors import AdminError, blaming, shortened
from admin_fairseq.files import replacing_folder
from admin_fairseq.provenance import installed_versions
from admin_fairseq.serving.description import Description, Positions
from admin_fairseq.serving.export import refuse_to_replace
from admin_fairseq.serving.huggingface_card import CODE_FILE, TARGET, Origin, card
from admin_fairseq.serving.huggingface_classes import (
    BOS,
    EOS,
    PAD,
    TRANSLATION,
    HuggingFaceClass,
    Options,
    class_of,
)
from admin_fairseq.serving.huggingface_tokenizers import FILES, SubwordModel, check_ids

MAX_LEN_B = 200
"""fairseq-generate's default of --max-len-b."""
MORE_THAN_ROUNDING = 1e-4
"""A difference in logits that is larger than any from float32 rounding."""

PARTS = {
    *("config.json", "generation_config.json", "model.safetensors", "README.md", TARGET),
    *(CODE_FILE, *FILES, *(os.path.join(TARGET, name) for name in FILES)),
}
"""Paths of all files and folders of an exported model except admin_fairseq.json."""


class Reference(NamedTuple):
    """Random sentences and what the folded model of fairseq computes for them."""

    inputs: dict[str, Tensor]  # of a class of transformers: B x S, B x T
    padding: Tensor  # where the targets are padding, B x T
    logits: Tensor  # B x T x V


def transformers() -> ModuleType:
    """Import and return the package transformers; raise AdminError if that fails."""
    try:
        _hide_broken_torchaudio()
        for name in ("safetensors.torch", "huggingface_hub", "transformers"):
            importlib.import_module(name)
        _require_torch(sys.modules["transformers"])
        importlib.import_module("transformers.modeling_utils")
    except ImportError:
        raise AdminError(
            "transformers is not installed; pip install 'transformers>=5' safetensors"
        ) from None
    except (OSError, RuntimeError) as error:  # of packages that it imports
        reason = shortened(" ".join(str(error).split()), 300)
        raise AdminError(f"transformers cannot be imported: {reason}") from None
    return sys.modules["transformers"]


def _require_torch(package: ModuleType) -> None:
    """Raise AdminError if transformers does not support the installed torch.

    It can be imported then, without its models.
    """
    if not package.is_torch_available():
        raise AdminError(
            f"transformers {package.__version__} does not support torch {torch.__version__}; "
            "export with a newer torch, to which checkpoints can be copied"
        )


def _hide_broken_torchaudio() -> None:
    """Let transformers do without torchaudio, if it is built for another torch than the installed.

    fairseq-fixed has it installed; nothing here uses it.
    """
    try:
        importlib.import_module("torchaudio")
    except ImportError:
        pass
    except OSError:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]


def export_huggingface(
    state: dict[str, Any],
    path: str,
    data: DataBin,
    folder: str,
    subwords: SubwordModel,
    force: bool = False,
) -> list[str]:
    """Write ``folder`` as transformers reads it, and return what was changed and checked.

    ``state`` is the content of the checkpoint ``path``, which errors name; it is emptied, because
    the model would else be in memory three times. Raises AdminError if no class of transformers
    computes the same, the written model does not, or ``folder`` must not be replaced.
    """
    refuse_to_replace(folder, force, PARTS)
    package = transformers()
    with blaming(path):
        dictionaries = data.dictionaries(state["model"])
        options = model_options(state)
        stock, changes = fold_checkpoint(state)
        state.clear()
        stock["cfg"]["model"] = _with_positions(model_options(stock))
        found = class_of(model_options(stock))
        origin = Origin(path, {**stock, "model": None}, options, data.languages)
    with replacing_folder(folder, force) as new, _quietly(package), blaming(path):
        _write_tokenizers(package, subwords, dictionaries, model_options(stock), new)
        separate = os.path.isdir(os.path.join(new, TARGET))
        names = (_example(package, new), os.path.basename(os.path.abspath(folder)), separate)
        _write_settings(package, found, stock["model"], model_options(stock), new)
        original = building.build(model_options(stock), stock["model"])
        _write(new, "README.md", card(origin, found, original, subwords.kind, *names))
        references = _references(original)
        del original
        _write_weights(found, stock.pop("model"), model_options(stock), new)
        difference = _difference(package, found, references, new)
        _description(model_options(stock), data).write(new)
    return [
        *changes,
        f"class {found.name}",
        f"largest difference in logits on random sentences: {difference:.2g}",
    ]


def _with_positions(options: Options) -> dict[str, Any]:
    """Return ``options`` with --max-target-positions, which fairseq's language models may lack.

    They then have as many positions as a sample has tokens.
    """
    positions = options.get("max_target_positions") or options.get("tokens_per_sample")
    return {**options, "max_target_positions": positions or DEFAULT_MAX_TARGET_POSITIONS}


def _write_tokenizers(
    package: ModuleType,
    subwords: SubwordModel,
    dictionaries: dict[str, Dictionary],
    options: Options,
    folder: str,
) -> None:
    """Write the tokenizer; for a target language with its own dictionary, a second in TARGET."""
    first, *others = dictionaries.items()
    places = [(folder, first)]
    places += [(os.path.join(folder, TARGET), it) for it in others if it[1] != first[1]]
    for place, (stack, dictionary) in places:
        subwords.write(dictionary, options[POSITIONS[stack]], place)
        check_ids(place, dictionary, package.AutoTokenizer.from_pretrained)


def _example(package: ModuleType, folder: str) -> str:
    """Return some text that the tokenizer in ``folder`` can split: the most frequent pieces."""
    tokenizer = package.AutoTokenizer.from_pretrained(folder)
    first = Dictionary().nspecial
    return tokenizer.decode(list(range(first, min(first + 8, len(tokenizer)))))


def _write_settings(
    package: ModuleType, found: HuggingFaceClass, weights: Weights, options: Options, folder: str
) -> None:
    """Write config.json, generation_config.json and the class that saves the model again."""
    settings = found.settings(weights, options)
    try:
        config = getattr(package, found.config)(**settings)
    except Exception as error:  # transformers checks the types, by exceptions of its own
        reason = shortened(" ".join(str(error).split()), 300)
        raise AdminError(f"transformers refuses the model's options: {reason}") from None
    config.architectures, config.dtype = [found.name], "float32"
    if found.code:
        config.auto_map = {found.auto: f"{os.path.splitext(CODE_FILE)[0]}.Model"}
        _write(folder, CODE_FILE, found.code)
    config.save_pretrained(folder)
    package.GenerationConfig(**_search(found, options)).save_pretrained(folder)


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def _search(found: HuggingFaceClass, options: Options) -> dict[str, Any]:
    """Return the settings with which ``generate`` searches as fairseq-generate does by default."""
    longest = min(MAX_LEN_B, options["max_target_positions"] - 1)
    start = {"bos_token_id": BOS, "decoder_start_token_id": EOS}
    return {
        **(start if found.auto == TRANSLATION else {"bos_token_id": EOS}),
        "num_beams": 5,
        "length_penalty": 1.0,
        "early_stopping": True,  # stop at as many finished hypotheses as the beam is wide
        "max_length": longest + 2,  # with the end symbols before and after
        "min_new_tokens": 1,
        "bad_words_ids": [[PAD]],
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "forced_eos_token_id": EOS,
    }


def _write_weights(
    found: HuggingFaceClass, weights: Weights, options: Options, folder: str
) -> None:
    """Write model.safetensors, in float32."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    converted = {
        name: weight.to(torch.float32).contiguous()
        for name, weight in found.convert(weights, options).items()
    }
    path = os.path.join(folder, "model.safetensors")
    try:
        save_file(converted, path, metadata={"format": "pt"})
    except SafetensorError as error:  # of a full disk, for example
        raise AdminError(f"model.safetensors cannot be written: {error}") from None
    shutil.copymode(os.path.join(folder, "config.json"), path)  # safetensors ignores the umask


@torch.no_grad()
def _references(model: nn.Module, batches: int = 2) -> list[Reference]:
    """Run random sentences, padded on the right, through the folded model of fairseq."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(batches):
        batch, padding = compare.random_batch(model, generator)
        tokens = _right_padded(batch["src_tokens"])
        batch["src_tokens"] = tokens
        inputs = {"input_ids": tokens, "attention_mask": tokens.ne(PAD).long()}
        if "prev_output_tokens" in batch:
            inputs["decoder_input_ids"] = batch["prev_output_tokens"]
        found.append(Reference(inputs, padding, model(**batch)[0].float()))
    return found


def _right_padded(tokens: Tensor) -> Tensor:
    """Move padding on the left of sentences (B x T) to their right."""
    return tokens.gather(1, tokens.eq(PAD).long().argsort(dim=1, stable=True))


@torch.no_grad()
def _difference(
    package: ModuleType, found: HuggingFaceClass, references: list[Reference], folder: str
) -> float:
    """Load the model in ``folder`` and return the largest difference of its logits.

    Raises AdminError if it is larger than rounding errors, or weights are missing or left over.
    """
    auto = getattr(package, found.auto)
    try:
        model, told = auto.from_pretrained(folder, output_loading_info=True)
    except RuntimeError as error:  # a weight has another shape
        reason = shortened(" ".join(str(error).split()), 300)
        raise AdminError(f"{found.name} cannot be loaded: {reason}") from None
    odd = sorted({*told["missing_keys"], *told["unexpected_keys"]} - {"final_logits_bias"})
    if odd or type(model).__name__ != found.name:
        raise AdminError(f"{found.name} has no place for {odd[0] if odd else 'this model'}")
    model.eval()
    differences = [
        (model(**inputs, use_cache=False).logits - logits)[~padding].abs().max()
        for inputs, padding, logits in references
    ]
    largest = torch.stack(differences).max().item()  # NaN if there is one
    if not largest <= MORE_THAN_ROUNDING:
        raise AdminError(f"as {found.name} the model differs by {largest:.2g} in logits")
    return largest


def _description(options: Options, data: DataBin) -> Description:
    """Return the description (admin_fairseq.json), the mark of an exported model."""
    longest = [options.get(name, options["max_target_positions"]) for name in POSITIONS.values()]
    return Description(
        Positions(*longest),
        dict(zip(("source", "target"), data.languages)),
        packages=installed_versions("admin-fairseq", "transformers", "torch"),
    )


@contextmanager
def _quietly(package: ModuleType) -> Iterator[None]:
    """Hide progress bars and warnings of transformers inside the ``with`` block."""
    logging = package.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
