"""``admin-fairseq evaluate``: average checkpoints, translate the test set, compute BLEU, print the
table of runs, all with the published settings."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Iterable, Iterator, NamedTuple, Optional

import torch

from admin_fairseq.corpora.datasets import DATASETS
from admin_fairseq.corpora.prepared import read_prepared
from admin_fairseq.corpora.subwords import SUBWORDS
from admin_fairseq.errors import AdminError, blaming, shortened
from admin_fairseq.files import read_text, replacing
from admin_fairseq.results.generated import translations
from admin_fairseq.running.processes import Words, as_line, output_file, run
from admin_fairseq.running.runs import RunOptions, Runs

logger = logging.getLogger(__name__)

BEST = "checkpoint_best.pt"
AVERAGE = "average.pt"  # the averaged checkpoint, in the folder of the run
RECORDED = {
    **{name: f"give it before --, as {name}" for name in ("--beam", "--lenpen")},
    "--path": "choose the checkpoint with --checkpoint",
    "--gen-subset": "only the test set is scored",
}
"""Option of fairseq-generate that must be as evaluation.json records it → what to do instead."""
LARGEST_LOG = 256 << 20  # the most bytes of fairseq-generate's output to read


@dataclass(frozen=True)
class EvaluateOptions(RunOptions):
    """The options of ``admin-fairseq evaluate``, under the same names."""

    average: Optional[int]
    last_epoch: Optional[int]
    beam: Optional[int]
    lenpen: Optional[float]
    max_tokens: int
    checkpoint: Optional[str]


class Step(NamedTuple):
    """A command of the evaluation: its arguments, the program first."""

    words: Words
    # for fairseq-generate, the start NAME of the paths of its output: NAME.log, .err and .hyp
    translation: Optional[str] = None


def evaluate(asked: EvaluateOptions) -> Iterator[str]:
    """Average checkpoints, translate the test set and compute BLEU for the run of every seed.

    Writes average.pt, test.hyp and evaluation.json into each run's folder. With ``dry_run``, yields
    the commands, one a line, and runs none. Raises AdminError if a run is missing or its
    translation fails, and SystemExit with the exit status of any other command that fails.
    """
    runs = Runs(asked)
    for option in (word.split("=")[0] for word in asked.words):
        if option in RECORDED:
            raise AdminError(f"{option} after --: would not be recorded; {RECORDED[option]}")
    device = _device(runs)
    if not asked.dry_run:
        _require(runs)
    for folder in runs.folders:
        yield from _perform(_steps(asked, runs, folder, device), asked.dry_run)
    yield from _perform([Step(["admin-fairseq", "results", runs.save_dir])], asked.dry_run)


def _require(runs: Runs) -> None:
    """Raise AdminError if the folder of a run does not exist."""
    for seed in runs.seeds:
        if not os.path.isdir(runs.folder(seed)):
            train = as_line(runs.words("train", seed))
            raise AdminError(f"{runs.folder(seed)}: missing; first run: {train}")


def _device(runs: Runs) -> list[str]:
    """Return fairseq's options for the device and its precision: --cpu, --fp16 or --bf16."""
    cpu = runs.options.cpu or not torch.cuda.is_available()
    precision = runs.precision(cpu)
    return [*(["--cpu"] if cpu else []), *([] if precision == "fp32" else [f"--{precision}"])]


def _steps(asked: EvaluateOptions, runs: Runs, run: str, device: list[str]) -> Iterator[Step]:
    """Yield the commands that evaluate the run in the folder ``run``: average, translate, score."""
    decoding = runs.recipe.decoding
    average = asked.average or decoding.average
    checkpoint = asked.checkpoint or (AVERAGE if average else BEST)
    averaging = checkpoint == AVERAGE
    if averaging:
        yield Step(_average(run, average, asked.last_epoch or decoding.last_epoch))
    how = ["--beam", str(asked.beam or decoding.beam)]
    how += ["--lenpen", str(decoding.lenpen if asked.lenpen is None else asked.lenpen)]
    yield Step(
        _generate(runs, f"{run}/{checkpoint}", [*how, *_unrecorded_options(asked, device)]),
        f"{run}/test",
    )
    noted = ["--checkpoint", checkpoint, *(["--averaged", str(average)] if averaging else [])]
    yield Step(
        [
            *("admin-fairseq", "score", f"{run}/test.hyp", "--data-dir", runs.data_dir),
            *("--output", f"{run}/evaluation.json", "--force", *noted, *how),
        ]
    )


def _average(run: str, count: int, last_epoch: Optional[int]) -> list[str]:
    """Return the command that averages the run's last ``count`` epochs up to ``last_epoch``."""
    bound = ["--checkpoint-upper-bound", str(last_epoch)] if last_epoch else []
    return [
        *("admin-fairseq", "average", "--inputs", run, "--output", f"{run}/{AVERAGE}"),
        *("--num-epoch-checkpoints", str(count), *bound, "--force"),
    ]


def _generate(runs: Runs, checkpoint: str, how: list[str]) -> list[str]:
    """Return the fairseq-generate command that translates the test set; ``how`` has its further
    options."""
    published = SUBWORDS[DATASETS[runs.options.dataset].pieces].remove
    remove_bpe = (read_prepared(runs.data_dir) or {}).get("remove_bpe", published)
    return [
        *("fairseq-generate", runs.data_bin, "--user-dir", "admin_fairseq"),
        *("--path", checkpoint, "--remove-bpe", remove_bpe),
        # with fairseq-fixed's default multiple of 8, the last sentences would be left out
        *("--required-batch-size-multiple", "1", *how),
    ]


def _unrecorded_options(asked: EvaluateOptions, device: list[str]) -> list[str]:
    """Return the options of fairseq-generate that evaluation.json does not record: batch, device,
    and the user's own after --."""
    return ["--max-tokens", str(asked.max_tokens), *device, *asked.words]


def _perform(steps: Iterable[Step], dry_run: bool) -> Iterator[str]:
    """Run the commands; with ``dry_run``, yield each as a line instead. Raise SystemExit with the
    exit status of a command that fails."""
    for step in steps:
        if dry_run:
            yield from _lines(step)
        elif step.translation:
            _translate(step.words, step.translation)
        else:
            status = run(step.words)
            if status:
                raise SystemExit(status)


def _lines(step: Step) -> Iterator[str]:
    """Yield the lines of shell that do what the step does."""
    line = as_line(step.words)
    if step.translation is None:
        yield line
        return
    log, errors, translations = (
        as_line([f"{step.translation}.{ending}"]) for ending in ("log", "err", "hyp")
    )
    yield f"{line}> {log}2> {errors}"
    yield f"sed -n 's/^D-//p' {log}| sort -n | cut -f3 > {translations}"


def _translate(words: Words, name: str) -> None:
    """Run the fairseq-generate command ``words`` and write its translations to ``name``.hyp, in the
    order of the test set.

    Its output goes to ``name``.log and its messages to ``name``.err. Raises AdminError if it fails.
    """
    logger.info("Translating into %s.hyp", name)
    with output_file(f"{name}.log") as log, output_file(f"{name}.err") as errors:
        status = run(words, stdout=log, stderr=errors)
    if status:
        last = "".join(read_text(f"{name}.err").splitlines()[-1:])
        raise AdminError(f"translating failed, see {name}.err: {shortened(last, 300)}")
    printed = read_text(f"{name}.log", LARGEST_LOG).split("\n")
    with blaming(f"{name}.log"):
        lines = translations(printed)
    with replacing(f"{name}.hyp") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
