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

import ctypes
import gc
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Optional

import fairseq
import torch
from fairseq import tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import DictConfig

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import DECIDED_BY_ARCHITECTURE
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch, build_model, first_batches, parse, quiet
from admin_fairseq.schemes import SCHEMES

SENTENCE_LENGTH = 30  # of made-up sentences, without end of sentence


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


class Block(NamedTuple):
    """One model's measurements in one block."""

    words_per_second: float
    peak_memory: Optional[int]  # bytes; None where it cannot be measured
    parameters: int
    skipped_updates: int  # gradients beyond float16's range


def benchmark(options: Options) -> dict[str, Any]:
    """Measure both models; the result is made of plain numbers, texts, lists and dicts.

    Raises AdminError where the options are wrong or the memory does not suffice.
    """
    _check(options)
    blocks: dict[str, list[Block]] = {"stock": [], "ours": []}
    with quiet(), metrics.aggregate(new_root=True):
        runs = configurations(options)
        task = tasks.setup_task(runs["stock"].task)
        count = options.warmup_updates + options.updates
        batches = first_batches(task, runs["stock"], count * options.blocks)
        for run in runs.values():
            _train(_trainer(run, task), batches[:1])
        for i in range(options.blocks):
            for side in ("stock", "ours") if i % 2 == 0 else ("ours", "stock"):
                mine = batches[i * count : (i + 1) * count]
                blocks[side].append(_block(runs[side], task, mine, options))
    return _result(options, runs["ours"], blocks)


def _check(options: Options) -> None:
    known = [name for name, arch in ARCHITECTURES.items() if arch.model == "admin_transformer"]
    if options.arch not in known:
        raise AdminError(f"unknown --arch {options.arch}; there are {', '.join(known)}")
    if options.init_type not in (None, *SCHEMES):
        raise AdminError(f"unknown --init-type {options.init_type}; there are {', '.join(SCHEMES)}")
    if options.fp16 and options.bf16:
        raise AdminError("--fp16 and --bf16 exclude one another")
    if options.precision != "fp32" and not options.on_gpu:
        raise AdminError(f"--{options.precision} needs a GPU; fairseq refuses it on a CPU")
    for name in ("updates", "blocks", "max_tokens", "encoder_layers", "decoder_layers"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise AdminError(f"--{name.replace('_', '-')} must be at least 1")
    if options.warmup_updates < 0:
        raise AdminError("--warmup-updates must be at least 0")
    if options.vocabulary < SENTENCE_LENGTH + 1:
        raise AdminError(f"--vocabulary must be at least {SENTENCE_LENGTH + 1}")
    if not options.data and options.max_tokens < SENTENCE_LENGTH:
        raise AdminError(f"no sentence fits into --max-tokens {options.max_tokens}")
    if options.data and len(list(Path(options.data).glob("dict.*.txt"))) < 2:
        raise AdminError(f"{options.data}: no folder that fairseq-preprocess made")


def configurations(options: Options) -> dict[str, DictConfig]:
    """fairseq's configuration of both runs; they differ in the model alone."""
    words = _words(options)
    ours = ["--arch", options.arch]
    for name in ("init_type", "encoder_layers", "decoder_layers"):
        if getattr(options, name) is not None:
            ours += ["--" + name.replace("_", "-"), str(getattr(options, name))]
    ours_args = parse([*words, *ours])
    stock_args = parse([*words, "--arch", "transformer", *_stock_words(ours_args)])
    return {
        "stock": convert_namespace_to_omegaconf(stock_args),
        "ours": convert_namespace_to_omegaconf(ours_args),
    }


def _words(options: Options) -> list[str]:
    """The command line that both share."""
    source = ["--task", "translation", options.data]
    if not options.data:
        length = str(SENTENCE_LENGTH)
        source = ["--task", "dummy_mt", "--dict-size", str(options.vocabulary)]
        source += ["--src-len", length, "--tgt-len", length]
    switches = [f"--{name}" for name in ("fp16", "bf16", "cpu") if getattr(options, name)]
    return [
        *source,
        *switches,
        *("--max-tokens", str(options.max_tokens), "--seed", str(options.seed)),
        *("--optimizer", options.optimizer, "--adam-betas", "(0.9, 0.98)"),
        # too small a rate to leave the region where numbers stay finite
        *("--lr", "1e-6", "--lr-scheduler", "fixed"),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        *("--share-decoder-input-output-embed", "--num-workers", "0"),
        *("--distributed-world-size", "1"),
    ]


def _stock_words(ours: Namespace) -> list[str]:
    """The options that give fairseq's ``transformer`` the sizes and norms of ours."""
    words = []
    for key in sorted(DECIDED_BY_ARCHITECTURE):
        if not key.endswith(("input_dim", "output_dim")):  # always the embedding's
            words += ["--" + key.replace("_", "-"), str(getattr(ours, key))]
    for stack in ("encoder", "decoder"):
        if getattr(ours, f"{stack}_normalize_before", False):
            words.append(f"--{stack}-normalize-before")
    return words


def _block(run: DictConfig, task: FairseqTask, batches: list[Batch], options: Options) -> Block:
    """Build a model, train it on the batches, forget it."""
    before = _reset_peak(options.on_gpu)
    trainer = _trainer(run, task)
    warmup, timed = batches[: options.warmup_updates], batches[options.warmup_updates :]
    _train(trainer, warmup)
    start = time.perf_counter()
    skipped = _train(trainer, timed)
    seconds = time.perf_counter() - start
    peak = _peak(options.on_gpu)
    return Block(
        words_per_second=sum(int(batch["ntokens"]) for batch in timed) / seconds,
        # a tiny model may fit into what the process has already
        peak_memory=peak - before if before is not None and peak > before else None,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        skipped_updates=skipped,
    )


def _trainer(run: DictConfig, task: FairseqTask) -> Trainer:
    torch.manual_seed(run.common.seed)
    trainer = Trainer(run, task, build_model(run, task), task.build_criterion(run.criterion))
    trainer.cuda_env = None  # with it, fairseq resets torch's peak memory at every update
    return trainer


def _train(trainer: Trainer, batches: list[Batch]) -> int:
    """One update a batch; returns how many were skipped."""
    done = trainer.get_num_updates()
    try:
        for batch in batches:
            trainer.train_step([batch], raise_oom=True)
        if trainer.cuda:
            torch.cuda.synchronize()
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise AdminError("out of memory; try a smaller --max-tokens") from None
    return done + len(batches) - trainer.get_num_updates()


def _reset_peak(on_gpu: bool) -> Optional[int]:
    """Let the peak begin anew; returns the bytes in use now, None where that is not known."""
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory, which would hide new
    except (AttributeError, OSError, TypeError):
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak(on_gpu: bool) -> int:
    """Bytes in use at most since ``_reset_peak``; only where that gave a number."""
    return torch.cuda.max_memory_allocated() if on_gpu else _status("VmHWM") or 0


def _status(name: str) -> Optional[int]:
    """A memory line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _result(options: Options, run: DictConfig, blocks: dict[str, list[Block]]) -> dict[str, Any]:
    before = [s for s in ("encoder", "decoder") if run.model[f"{s}_normalize_before"]]
    norm = {0: "Post-LN", 1: f"Pre-LN {''.join(before)}", 2: "Pre-LN"}[len(before)]
    stock = _side(f"fairseq transformer, {norm}", blocks["stock"])
    ours = _side(f"{options.arch}, {run.model.init_type}", blocks["ours"])
    by_block = [
        ours_block.words_per_second / stock_block.words_per_second
        for stock_block, ours_block in zip(blocks["stock"], blocks["ours"])
    ]
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
