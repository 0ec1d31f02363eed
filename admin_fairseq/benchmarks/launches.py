"""Count the launches of a training step on a GPU and the waits for it, and time the host.

No GPU is needed.

Launches are the operators that would launch a kernel on a GPU (views launch none), and kernels of
Triton. A wait is an operator whose result the host reads; ``Tensor.tolist``, which calls none on a
CPU, is not seen. The step runs on the CPU with tensors so small that the CPU time is that of the
host, which takes the paths of a GPU (``pretended``). Numbers are arbitrary; so gradients are set to
0 before the optimiser's step.
"""

# no postponed annotations: fairseq's parser generator reads types
import gc
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import thread_time
from typing import Any, Callable, Optional, Sequence, TypeVar

import torch
from fairseq import tasks
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from torch import Tensor

from admin_fairseq.benchmarks import options as common
from admin_fairseq.benchmarks import pretended, sides
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.pretended import Kernels
from admin_fairseq.benchmarks.sides import BOTH
from admin_fairseq.benchmarks.summaries import Spread, ratios, series, spread
from admin_fairseq.benchmarks.trainers import new_trainer
from admin_fairseq.benchmarks.turns import take_turns
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import Batch
from admin_fairseq.repairs.private import DispatchMode, prepared
from admin_fairseq.studies.options import option, trailing_words
from admin_fairseq.studies.pictures import Bars, Picture, Series
from admin_fairseq.studies.study import Row, Study

T = TypeVar("T")

NO_LAUNCH = ("empty", "new_empty", "_unsafe_view", "is_same_size")
"""What the names of operators begin with that launch nothing and return no view."""

READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
"""Operators whose result the host reads, as it does for an index of booleans."""

PHASES = ("batch", "forward", "backward", "optimizer")
GOALS = {"forward and backward": PHASES[:-1], "step": PHASES}

TINY = [
    word
    for stack in ("encoder", "decoder")
    for size in ("embed-dim", "ffn-embed-dim")
    for word in (f"--{stack}-{size}", "16")
] + ["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"]
PRECISIONS = {"bf16": ["--bf16"], "fp32": []}
SHAPE = 3, 6  # of a batch: sentences, tokens; operators take next to no time
VOCABULARY = 100


@dataclass
class Options(FairseqDataclass):
    """The options of ``admin-fairseq benchmark launches``."""

    arch: str = option("admin_transformer_iwslt_de_en", "our architecture")
    init_type: Optional[str] = common.init_type()
    encoder_layers: int = common.layers("encoder", 6)
    decoder_layers: int = common.layers("decoder", 6)
    precision: str = option(
        "bf16", "bf16 (fp16 has the same launches) or fp32", choices=list(PRECISIONS)
    )
    no_padding: bool = option(False, "make sentences of equal length")
    our_words: Sequence[str] = common.ours()
    stock_words: Sequence[str] = common.stock()
    updates: int = common.updates(5)
    blocks: int = common.blocks(7)
    warmup_updates: int = common.warmup_updates(3)
    words: Sequence[str] = trailing_words("options of fairseq-train for stock and ours")

    @property
    def workload(self) -> Workload:
        """Return the model and batch: the depth as asked, everything else tiny."""
        return Workload(
            arch=self.arch,
            init_type=self.init_type,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            vocabulary=VOCABULARY,
            max_tokens=100,  # of made-up sentences that are not used
            cpu=True,
            words=(*TINY, *PRECISIONS[self.precision], *self.words),
        )


class Count(DispatchMode):
    """Context manager that counts launches of kernels, and waits of the host for them."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        self.launches += not (function.is_view or name.startswith(NO_LAUNCH))
        self.waits += name in READS or (name == "index" and _has_booleans(args[1]))
        return function(*args, **(kwargs or {}))


def _has_booleans(indices: Sequence[Optional[Tensor]]) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


@dataclass(frozen=True)
class Phase:
    """What one part of a step launches and waits for, and how long it takes the host."""

    launches: int
    waits: int
    milliseconds: Spread


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq benchmark launches``.

    ``ratios`` are the host's times of ours, divided by those of stock fairseq.
    """

    options: Options
    commands: dict[str, str]
    stock: dict[str, Phase]
    ours: dict[str, Phase]
    ratios: dict[str, Spread]

    @property
    def sides(self) -> dict[str, dict[str, Phase]]:
        """Return the phases of stock fairseq and of ours, by side."""
        return {"stock": self.stock, "ours": self.ours}


def _measure(options: Options) -> Result:
    """Count and time the steps of stock fairseq and ours, by turns.

    Raises AdminError if an option is wrong, or Triton is not installed.
    """
    both = sides.pair(options.workload, options.stock_words, options.our_words)
    if any(getattr(side.run.criterion, "cuda_graphs", False) for side in both.values()):
        raise AdminError("--cuda-graphs needs a GPU, and this benchmark has none; leave it out")
    with metrics.aggregate(new_root=True), pretended.gpu() as kernels:
        task = tasks.setup_task(both["stock"].run.task)
        batch = _batch(task, padded=not options.no_padding)
        steps = {name: _Step(new_trainer(side.run, task), batch) for name, side in both.items()}
        for step in steps.values():
            for _ in range(options.warmup_updates):
                step.run(lambda phase: phase())
        counts = {name: step.run(partial(_counted, kernels)) for name, step in steps.items()}
        turns = {name: partial(_block, step, options.updates) for name, step in steps.items()}
        times = take_turns(turns, options.blocks)
    phases = {
        name: {
            phase: Phase(*counts[name][phase], spread([block[phase] for block in times[name]]))
            for phase in PHASES
        }
        for name in BOTH
    }
    commands = {name: side.command for name, side in both.items()}
    return Result(options, commands, **phases, ratios=_ratios(times))


def _batch(task: FairseqTask, padded: bool) -> Batch:
    """Make three sentence pairs; if ``padded``, one of them is shorter."""
    dictionary = task.target_dictionary
    source, previous, target = torch.randint(dictionary.nspecial, len(dictionary), (3, *SHAPE))
    if padded:
        source[0, :2] = previous[1, -2:] = target[1, -2:] = dictionary.pad()
    return {
        "net_input": {
            "src_tokens": source,
            "src_lengths": source.ne(dictionary.pad()).sum(1),
            "prev_output_tokens": previous,
        },
        "target": target,
        "ntokens": int(target.ne(dictionary.pad()).sum()),
        "nsentences": SHAPE[0],
    }


class _Step:
    """A training step, in phases."""

    def __init__(self, trainer: Trainer, batch: Batch) -> None:
        self.trainer, self.given = trainer, batch
        self.sample, self.loss = batch, None

    def run(self, measure: Callable[[Callable[[], None]], T]) -> dict[str, T]:
        """Run the phases by ``measure``; returns its results, by the phase's name."""
        found = {phase: measure(getattr(self, phase)) for phase in PHASES[:-1]}
        for parameter in self.trainer.model.parameters():
            parameter.grad.zero_()  # kernels of Triton have computed nothing
        found["optimizer"] = measure(self.optimizer)
        self.trainer.zero_grad()
        return found

    def batch(self) -> None:
        """Prepare the batch, on the host."""
        self.sample, _ = prepared(self.trainer, self.given)

    def forward(self) -> None:
        self.loss, *_ = self.trainer.criterion(self.trainer.model, self.sample)

    def backward(self) -> None:
        self.trainer.optimizer.backward(self.loss)

    def optimizer(self) -> None:
        self.trainer.clip_grad_norm(self.trainer.cfg.optimization.clip_norm)
        self.trainer.optimizer.step()


def _counted(kernels: Kernels, phase: Callable[[], None]) -> tuple[int, int]:
    """Count launches and waits of a phase."""
    before = kernels.launched
    with Count() as count:
        phase()
    if phase.__name__ == "batch":  # it is on the host still
        return 0, 0
    return count.launches + kernels.launched - before, count.waits


def _timed(phase: Callable[[], None]) -> float:
    start = thread_time()
    phase()
    return 1000 * (thread_time() - start)


def _block(step: _Step, updates: int, number: int) -> dict[str, float]:
    """Return the median milliseconds of every phase over ``updates`` steps."""
    gc.collect()  # now, not during the block
    found = [step.run(_timed) for _ in range(updates)]
    return {phase: median(one[phase] for one in found) for phase in PHASES}


def _ratios(times: dict[str, list[dict[str, float]]]) -> dict[str, Spread]:
    """Divide the milliseconds of ours by those of stock, block by block."""

    def sums(side: str, phases: Sequence[str]) -> list[float]:
        return [sum(block[phase] for phase in phases) for block in times[side]]

    return {
        name: spread(ratios(sums("ours", phases), sums("stock", phases)))
        for name, phases in GOALS.items()
    }


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per phase and side."""
    return [
        {
            **{"phase": name, "side": side, "launches": phase.launches, "waits": phase.waits},
            "milliseconds": phase.milliseconds.median,
        }
        for side, phases in result.sides.items()
        for name, phase in phases.items()
    ]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: bars of launches and of milliseconds for every phase."""
    phases = {side: list(found.values()) for side, found in result.sides.items()}
    launches = [Series(side, [one.launches for one in found]) for side, found in phases.items()]
    times = [series(side, [one.milliseconds for one in found]) for side, found in phases.items()]
    panels = [
        Bars("Launches", "launches per step", list(PHASES), launches),
        Bars("The host's time", "milliseconds per step", list(PHASES), times),
    ]
    return {"launches": Picture("A training step on a GPU, as the host sees it", panels)}


def _read(result: Result) -> list[str]:
    """Return the findings as lines of text: one per phase, then the ratios."""
    lines = ["Launches, waits and milliseconds of the host in a training step, stock and ours"]
    for phase in PHASES:
        found = [
            f"{side} {one.launches} launches, {one.waits} waits, {one.milliseconds.median:.1f} ms"
            for side, one in ((side, phases[phase]) for side, phases in result.sides.items())
        ]
        lines.append(f"{phase}: {'; '.join(found)}")
    for name, ratio in result.ratios.items():
        counts = [
            sum(phases[phase].launches for phase in GOALS[name]) for phases in result.sides.values()
        ]
        lines.append(
            f"{name}: launches {counts[0]} and {counts[1]}; time of the host, ours/stock, "
            f"{ratio.median:.3f} ({ratio.lowest:.3f} to {ratio.highest:.3f})"
        )
    return lines


STUDY = Study(
    help="count the launches of a training step on a GPU and the waits for it, and measure the "
    "time of the host; needs no GPU",
    options=Options,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["launches"],
)
