"""Speed and memory of one of our architectures beside fairseq's own ``transformer``.

Both get the same sizes, norm placement (where fairseq has it: it cannot leave layer norm out, so
T-Fixup is held against Post-LN), options, seed and batches, and train through fairseq's own
``Trainer``, in one process. They take turns in blocks of updates, the first one changing from
block to block, so that drift of the machine's speed falls on both. A block builds its model
afresh, makes some updates that do not count, and is timed over the others: only one model is alive
at any time, which makes its memory measurable. Batches are made before the clock starts.

Words are target words with end of sentence, as in fairseq's ``wps``. Peak memory is what a block
needs beyond what the process held before it built the model: on a GPU torch's own count of
allocated bytes, on Linux the process's resident memory (``VmHWM``, reset through
``/proc/self/clear_refs``, after glibc gave back what it kept of earlier blocks), elsewhere
nothing. One update of each before the blocks loads what only a first one loads.

ω stays 1: the model is built outside a run's configuration, so it neither needs nor makes a
profile, and the multiplication costs the same with any ω.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import partial
from statistics import median
from typing import Any, Optional

import fairseq
import torch
from fairseq import tasks
from fairseq.logging import metrics
from omegaconf import DictConfig

from admin_fairseq import bounds
from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.sides import SENTENCE_LENGTH, Conditions
from admin_fairseq.benchmarks.summaries import ratios
from admin_fairseq.benchmarks.trainers import Block, fresh_block, new_trainer, train
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.bounds import counting
from admin_fairseq.config import INIT_TYPES
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import first_batches, quiet

__all__ = ["SENTENCE_LENGTH", "Options", "benchmark", "configurations", "report"]


BOUNDS = {
    **sides.BOUNDS,
    "updates": counting(1, 10_000),
    "blocks": counting(1, 1000),
    "warmup_updates": counting(0, 10_000),
}


@dataclass(frozen=True)
class Options:
    """What is asked for; names and defaults are those of the command line."""

    arch: str = "admin_transformer_iwslt_de_en"
    init_type: Optional[str] = None
    encoder_layers: Optional[int] = None
    decoder_layers: Optional[int] = None
    data: Optional[str] = None
    vocabulary: int = 8000
    max_tokens: int = 2048
    updates: int = 10
    blocks: int = 5
    warmup_updates: int = 3
    optimizer: str = "radam"
    fp16: bool = False
    bf16: bool = False
    cpu: bool = False
    seed: int = 1

    @property
    def precision(self) -> str:
        return "fp16" if self.fp16 else "bf16" if self.bf16 else "fp32"

    @property
    def on_gpu(self) -> bool:
        return torch.cuda.is_available() and not self.cpu


def benchmark(options: Options) -> dict[str, Any]:
    """Measure both models; the result is made of plain numbers, texts, lists and dicts.

    Raises AdminError where the options are wrong or the memory does not suffice.
    """
    _check(options)
    with quiet(), metrics.aggregate(new_root=True):
        runs = configurations(options)
        task = tasks.setup_task(runs["stock"].task)
        count = options.warmup_updates + options.updates
        batches = first_batches(task, runs["stock"], count * options.blocks)
        for run in runs.values():
            train(new_trainer(run, task), batches[:1])

        def block_of(side: str, i: int) -> Block:
            mine = batches[i * count : (i + 1) * count]
            return fresh_block(runs[side], task, mine, options.warmup_updates)

        blocks = take_turns({side: partial(block_of, side) for side in runs}, options.blocks)
    return _result(options, runs["ours"], blocks)


def _check(options: Options) -> None:
    if options.init_type not in (None, *INIT_TYPES):
        there_are = ", ".join(INIT_TYPES)
        raise AdminError(f"unknown --init-type {options.init_type}; there are {there_are}")
    if options.fp16 and options.bf16:
        raise AdminError("--fp16 and --bf16 exclude one another")
    if options.precision != "fp32" and not options.on_gpu:
        raise AdminError(f"--{options.precision} needs a GPU; fairseq refuses it on a CPU")
    bounds.check(options, BOUNDS)
    _conditions(options).check()


def _conditions(options: Options) -> Conditions:
    shared = {f.name for f in fields(Conditions)} & {f.name for f in fields(Options)}
    switches = tuple(f"--{name}" for name in ("fp16", "bf16") if getattr(options, name))
    return Conditions(**{name: getattr(options, name) for name in shared}, words=switches)


def configurations(options: Options) -> dict[str, DictConfig]:
    """fairseq's configuration of both runs; they differ in the model alone."""
    conditions = _conditions(options)
    scheme = ["--init-type", options.init_type] if options.init_type else []
    both = [sides.stock(conditions, of=scheme), sides.ours(conditions, words=scheme)]
    return {side.name: side.run for side in both}


def _result(options: Options, run: DictConfig, blocks: dict[str, list[Block]]) -> dict[str, Any]:
    before = [s for s in ("encoder", "decoder") if run.model[f"{s}_normalize_before"]]
    norm = {0: "Post-LN", 1: f"Pre-LN {''.join(before)}", 2: "Pre-LN"}[len(before)]
    stock = _side(f"fairseq transformer, {norm}", blocks["stock"])
    ours = _side(f"{options.arch}, {run.model.init_type}", blocks["ours"])
    by_block = ratios(ours["words_per_second_by_block"], stock["words_per_second_by_block"])
    memory = None
    if ours["peak_memory"] and stock["peak_memory"]:
        memory = ours["peak_memory"] / stock["peak_memory"]
    return {
        "options": {
            **asdict(options),
            "encoder_layers": run.model.encoder_layers,
            "decoder_layers": run.model.decoder_layers,
        },
        "device": torch.cuda.get_device_name() if options.on_gpu else "CPU",
        "precision": options.precision,
        "memory": "allocated on the GPU" if options.on_gpu else "resident",
        "versions": {"torch": torch.__version__, "fairseq": fairseq.__version__},
        "stock": stock,
        "ours": ours,
        "ratio": {
            "speed": ours["words_per_second"] / stock["words_per_second"],
            "speed_by_block": by_block,
            "memory": memory,
        },
    }


def _side(name: str, blocks: list[Block]) -> dict[str, Any]:
    speeds = [block.words_per_second for block in blocks]
    memories = [block.peak_memory for block in blocks if block.peak_memory is not None]
    return {
        "name": name,
        "parameters": blocks[0].parameters,
        "words_per_second": median(speeds),
        "words_per_second_by_block": speeds,
        "peak_memory": median(memories) if memories else None,
        "skipped_updates": sum(block.skipped_updates for block in blocks),
    }


def report(result: dict[str, Any]) -> list[str]:
    """The lines to print for a result."""
    asked, ratio = result["options"], result["ratio"]
    batches = asked["data"] or f"made-up sentences, vocabulary {asked['vocabulary']}"
    by_block = ratio["speed_by_block"]
    memory = "n/a" if ratio["memory"] is None else f"{ratio['memory']:.3f}"
    return [
        f"Training speed and peak {result['memory']} memory of one model alone: "
        f"median of {asked['blocks']} alternating blocks of {asked['updates']} updates "
        f"(lowest to highest)",
        f"{asked['encoder_layers']}+{asked['decoder_layers']} layers, {asked['max_tokens']} tokens "
        f"a batch, {batches}, {asked['optimizer']}, {result['precision']}, {result['device']}, "
        f"torch {result['versions']['torch']}, fairseq {result['versions']['fairseq']}",
        _line(result["stock"]),
        _line(result["ours"]),
        f"ratio ours/stock: speed {ratio['speed']:.3f} ({min(by_block):.3f} to "
        f"{max(by_block):.3f} in one block), memory {memory}",
    ]


def _line(side: dict[str, Any]) -> str:
    speeds, memory = side["words_per_second_by_block"], side["peak_memory"]
    line = (
        f"{side['name']}: {side['words_per_second']:.1f} words/s "
        f"({min(speeds):.1f} to {max(speeds):.1f}), "
        f"memory {'n/a' if memory is None else f'{memory / 2**20:.1f} MiB'}, "
        f"{side['parameters'] / 1e6:.2f} M parameters"
    )
    skipped = side["skipped_updates"]
    return line + (f", {skipped} updates skipped (float16 overflow)" if skipped else "")
