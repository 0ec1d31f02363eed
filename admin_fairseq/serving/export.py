"""Export a checkpoint for CTranslate2: fold ω and α into other weights, then have it converted."""

from __future__ import annotations

import os
import shutil
import tempfile
from argparse import Namespace
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Collection, Mapping, Optional

from fairseq.models import ARCH_MODEL_NAME_REGISTRY

from admin_fairseq import pieces
from admin_fairseq.architectures import KINDS
from admin_fairseq.bounds import spelled
from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.checkpoints.storage import model_options, run_options
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.files import refuse_to_overwrite, replacing_folder
from admin_fairseq.provenance import installed_versions
from admin_fairseq.repairs.saving import save
from admin_fairseq.serving.description import (
    DESCRIPTION,
    PARTS,
    SENTENCEPIECE_MODEL,
    Description,
    Positions,
    checksums,
)

QUANTIZATIONS = (
    *("int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"),
    *("float16", "bfloat16", "float32"),
)

TASKS = ("translation", "language_modeling")
"""fairseq's names of the tasks whose models can be exported."""

IGNORED_BY_CTRANSLATE2 = (
    "adaptive_softmax_cutoff",
    "base_layers",
    "merge_src_tgt_embed",
    "no_cross_attention",
    "quant_noise_pq",
    *("scale_attn", "scale_fc", "scale_heads", "scale_resids"),
)
"""Options of a model that CTranslate2's converter ignores, so that its result would be wrong."""

READ_BY_CTRANSLATE2 = ("adaptive_input", "character_embeddings")
"""Options that the converter expects of every language model; this plugin's do not have them."""


def ctranslate2() -> ModuleType:
    """Import and return the package CTranslate2; raise AdminError if it is not installed."""
    try:
        import ctranslate2
    except ImportError:
        raise AdminError("CTranslate2 is not installed; pip install ctranslate2") from None
    return ctranslate2


def export_ctranslate2(
    state: Mapping[str, Any],
    path: str,
    data: DataBin,
    folder: str,
    quantization: Optional[str] = None,
    sentencepiece_model: Optional[str] = None,
    force: bool = True,
) -> list[str]:
    """Write ``folder`` in the format of CTranslate2, and return what folding the model changed.

    Folding multiplies Admin's residual scales ω and the branch scales α into other weights.
    ``state`` is the content of the checkpoint ``path``, which errors name. A sentencepiece model,
    if given, is copied into ``folder``. Raises AdminError if the model has no equivalent without ω
    and α, CTranslate2 does not support one of its options, or ``folder`` must not be replaced.
    """
    refuse_to_replace(folder, force)
    package = ctranslate2()
    if sentencepiece_model:
        pieces.load(sentencepiece_model)  # fails now rather than when translating
    with blaming(path):
        data.check(state["model"])
        stock, changes = fold_checkpoint(state)
        _check_options(model_options(stock))
    with ExitStack() as stack:
        new = stack.enter_context(replacing_folder(folder, force))
        # beside it, where the next export removes what a killed one left
        beside = tempfile.TemporaryDirectory(dir=os.path.dirname(new))
        checkpoint = os.path.join(stack.enter_context(beside), "checkpoint.pt")
        with open(checkpoint, "wb") as file:
            save(_as_converter_reads_it(stock, data), file)
        converter = package.converters.FairseqConverter(
            checkpoint,
            data.folder,
            data.source_lang,
            data.target_lang,
            unsafe_deserialization=True,  # we wrote the file just now
        )
        try:
            converter.convert(new, quantization=quantization, force=True)
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise AdminError(f"{path}: CTranslate2 cannot convert this model: {reason}") from None
        if sentencepiece_model:
            shutil.copyfile(sentencepiece_model, os.path.join(new, SENTENCEPIECE_MODEL))
        _description(stock, data, quantization, new).write(new)
    return changes


def refuse_other_tasks(state: Mapping[str, Any]) -> None:
    """Raise AdminError for a checkpoint of a model that neither translates nor continues text."""
    name = model_options(state)["_name"]
    kind = KINDS.get(ARCH_MODEL_NAME_REGISTRY.get(name, name))
    if kind is not None and kind.task not in TASKS:
        raise AdminError(
            f"a model for {kind.task} (--arch {name}); only models for {' and '.join(TASKS)} "
            "can be exported"
        )


def refuse_to_replace(folder: str, force: bool, parts: Collection[str] = PARTS) -> None:
    """Raise AdminError if ``folder`` exists and must not be replaced.

    Even with ``force`` only a folder that contains nothing but an exported model is replaced:
    ``parts`` are the paths of what it contains, beside admin_fairseq.json.
    """
    refuse_to_overwrite(folder, force)
    if not os.path.lexists(folder):
        return
    content = set() if os.path.islink(folder) else _content(folder)
    if DESCRIPTION not in content or content - {DESCRIPTION, *parts}:
        raise AdminError(
            f"{folder}: not a folder with a model exported to the same target and nothing else; "
            "it will not be replaced"
        )


def _content(folder: str) -> set[str]:
    """Return the paths, below ``folder``, of all files and folders there; none for a file."""
    return {
        os.path.relpath(os.path.join(place, name), folder)
        for place, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def _description(
    stock: Mapping[str, Any], data: DataBin, quantization: Optional[str], folder: str
) -> Description:
    """Return the description (admin_fairseq.json) of the model that was exported to ``folder``."""
    options = model_options(stock)
    longest = options["max_target_positions"] or options["tokens_per_sample"]
    return Description(
        Positions(options.get("max_source_positions", longest), longest),
        dict(zip(("source", "target"), data.languages)),
        quantization,
        installed_versions("admin-fairseq", "ctranslate2", "torch"),
        checksums(folder),
    )


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise AdminError if CTranslate2's converter would ignore one of the model's options."""
    overlooked = next((option for option in IGNORED_BY_CTRANSLATE2 if options.get(option)), None)
    dims = {options[f"decoder_{kind}_dim"] for kind in ("input", "embed", "output")}
    if overlooked is None and len(dims) > 1:
        overlooked = "decoder_output_dim"
    if overlooked is not None:
        raise AdminError(f"CTranslate2 has no equivalent of {spelled(overlooked)}")


def _as_converter_reads_it(stock: Mapping[str, Any], data: DataBin) -> dict[str, Any]:
    """Return the folded checkpoint ``stock`` in the old format that CTranslate2's converter reads.

    That is the format of fairseq up to 0.9, where all options are in one Namespace.
    """
    options = model_options(stock)
    task = {**(run_options(stock).get("task") or {}), "data": data.folder}
    task_name = task.pop("_name", "translation")
    options = {**dict.fromkeys(READ_BY_CTRANSLATE2, False), **task, **options}
    args = Namespace(**{**options, "task": task_name, "arch": options["_name"]})
    return {"args": args, "model": stock["model"]}
