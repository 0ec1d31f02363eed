"""Read the folder of a training run: its model and data, its losses, its scores, and whether the
run diverged or is otherwise unsound."""

from __future__ import annotations

import math
import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional, Union

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import apply_architecture
from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.files import require_folder
from admin_fairseq.profiling.profile import read_profile
from admin_fairseq.recipes.published import PUBLISHED
from admin_fairseq.repairs import run_log
from admin_fairseq.repairs.save_dir import is_taken
from admin_fairseq.results.binarised import training_target, unigram_bits
from admin_fairseq.results.evaluation import Evaluation, Score, read_evaluation
from admin_fairseq.results.logs import Log, Point, read_log
from admin_fairseq.schemes import SCHEMES, Profiling

LOG, PROFILE, EVALUATION = run_log.NAME, "profile.json", "evaluation.json"
TRANSLATIONS = "test.hyp"
LONGEST_NAME = 100  # characters; longer texts of a log are shortened in tables
MOST_LAYERS = 1_000_000

# sections of fairseq's configuration that fairseq-train does not use
OTHER_PROGRAMS = ("common_eval", "eval_lm", "generation", "interactive", "job_logging_cfg")
PLACES = (
    *("seed", "user_dir", "num_workers", "data_buffer_size", "no_progress_bar", "suppress_crashes"),
    *("log_file", "log_format", "log_interval", "reset_logging", "tensorboard_logdir"),
    *("wandb_project", "azureml_logging", "aim_repo", "aim_run_hash", "plasma_path"),
    *("device_id", "nprocs_per_node", "distributed_init_method", "distributed_no_spawn"),
    *("distributed_num_procs", "distributed_port", "distributed_rank", "heartbeat_timeout"),
    *("save_dir", "restore_file", "finetune_from_model", "continue_once", "profile_path"),
    *("no_save", "no_epoch_checkpoints", "no_last_checkpoints", "no_save_optimizer_state"),
    *("save_interval", "save_interval_updates", "keep_interval_updates"),
    *("keep_interval_updates_pattern", "keep_last_epochs", "keep_best_checkpoints"),
)
"""Options without influence on the training: the seed, paths, logging, saving, devices. Runs that
differ only in these share a row of the table."""

# whether the layers of (encoder, decoder) apply layer norm before the branches → scheme
PLAIN = {
    (False, False): "postln",
    (True, True): "preln",
    (False, True): "postln-preln",
    (True, False): "preln-postln",
    (False,): "postln",
    (True,): "preln",
}


@dataclass
class Run:
    """A training run, as its folder describes it; "?" stands for what the log does not say."""

    folder: str
    log: Log
    evaluation: Optional[Evaluation] = None
    profile: Optional[dict[str, Any]] = None  # from profile.json: Admin's measured variances

    @cached_property
    def model(self) -> Namespace:
        """The model's options as attributes, with the defaults of its architecture filled in."""
        options, model = self.log.config.get("model", {}), Namespace()
        vars(model).update(options)
        name = str(options.get("_name") or options.get("arch"))
        if name in ARCHITECTURES:
            # contradictory options belong to a run that failed
            with suppress(AdminError, KeyError, TypeError):
                apply_architecture(model, name)
        return model

    @property
    def seed(self) -> Union[int, str]:
        """The random seed of the run."""
        seed = self.log.config.get("common", {}).get("seed", "?")
        return seed if isinstance(seed, int) and abs(seed) < 1 << 63 else _text(seed)

    @property
    def data(self) -> str:
        """The folder of the binarised training data; the first one if there are several."""
        return str(self.log.config.get("task", {}).get("data") or "").split(os.pathsep)[0]

    @property
    def dataset(self) -> str:
        """The data set's name: from evaluation.json, or else from the path of the data."""
        parts = [part for part in self.data.split("/") if part]
        known = (part for part in reversed(parts) if part in PUBLISHED)
        folder = next((part for part in reversed(parts) if part != "bin"), "?")
        scored = self.evaluation.dataset if self.evaluation else None
        return _text(scored or next(known, folder))

    @property
    def depths(self) -> tuple[int, int]:
        """The numbers of encoder and decoder layers; 0 if the model has no such stack, or if the
        log does not say."""
        encoder, decoder = (getattr(self.model, f"{s}coder_layers", None) for s in ("en", "de"))
        return _layers(encoder), _layers(decoder)

    @property
    def depth(self) -> str:
        """The depths as tables show them, such as 18L-18L."""
        return "-".join(f"{layers}L" for layers in self.depths if layers) or "?"

    @property
    def scheme(self) -> str:
        """The scheme's name as in the published tables: admin, postln, preln or a value of
        --init-type."""
        name = _text(getattr(self.model, "init_type", None) or "default")
        if not self.log.config:
            return "?"
        if name in SCHEMES and SCHEMES[name].profiling is not Profiling.NONE:
            return "admin"
        if name != "default":
            return name
        options = (f"{stack}_normalize_before" for stack in ("encoder", "decoder"))
        before = tuple(bool(getattr(self.model, name)) for name in options if name in self.model)
        return PLAIN.get(before, _text(getattr(self.model, "_name", "?")))

    @property
    def name(self) -> tuple[str, str, str]:
        """(data set, scheme, depth)"""
        return self.dataset, self.scheme, self.depth

    @cached_property
    def settings(self) -> dict[str, str]:
        """The options that influence the training, as section.option → value."""
        if not self.log.config:
            return {"run.folder": self.folder}
        return {
            f"{section}.{name}": _setting(name, value)
            for section, options in {**self.log.config, "model": vars(self.model)}.items()
            if section not in OTHER_PROGRAMS
            for name, value in options.items()
            if name not in PLACES and not str(value).startswith("${")
        }

    @property
    def last_loss(self) -> Optional[float]:
        """The training loss of the last log interval; None if no loss was logged."""
        return self.log.training[-1].loss if self.log.training else None

    @property
    def best(self) -> Optional[Point]:
        """The update with the lowest validation loss, and that loss; None without a validation."""
        finite = (point for point in self.log.validation if math.isfinite(point.loss))
        return min(finite, key=lambda point: point.loss, default=None)

    def updates_to(self, loss: float) -> Optional[int]:
        """The first update after which the validation loss is at most ``loss``; None if none is."""
        return next((point.update for point in self.log.validation if point.loss <= loss), None)

    @property
    def scores(self) -> Mapping[str, Score]:
        """The scores by kind: tokenised, compound split and detokenised BLEU, and chrF2; empty if
        the run was not evaluated."""
        if self.evaluation is None:
            return {}
        chrf = self.evaluation.chrf
        return {**self.evaluation.bleu, **({"chrF2": chrf} if chrf else {})}

    def score(self, kind: str) -> Optional[float]:
        """The score of a kind; None if unknown."""
        return self.scores[kind].score if kind in self.scores else None

    @cached_property
    def verdict(self) -> str:
        """What is wrong with the run: the first name in ``VERDICTS`` whose test is true of it, such
        as "diverged"; "" if none is."""
        return next((name for name, verdict in VERDICTS.items() if verdict.holds(self)), "")


def _setting(name: str, value: Any) -> str:
    """Format an option's value so that values can be compared between runs."""
    if name == "data":  # only the folder's name: the same data can lie in different places
        return _text(os.path.basename(str(value).rstrip("/")))
    return _text(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _text(value: Any) -> str:
    """Convert a value from a log to text, shortened for tables."""
    return shortened(str(value), LONGEST_NAME)


def _layers(value: Any) -> int:
    """Return a number of layers from a log, or 0 if the value is no sensible number."""
    return value if isinstance(value, int) and 0 < value < MOST_LAYERS else 0


class Verdict(NamedTuple):
    """What can be wrong with a run, such as "diverged": the definition as tables print it, and the
    function that tests whether a run has this fault."""

    rule: str
    holds: Callable[[Run], bool]


def _diverged(run: Run) -> bool:
    """Whether training overflowed, or its last loss is not finite, or its loss has risen."""
    training, last = run.log.training, (run.log.training[-1:], run.log.validation[-1:])
    finite = all(math.isfinite(point.loss) for points in last for point in points)
    risen = bool(training) and training[-1].loss > training[0].loss
    return run.log.overflowed or not finite or risen


def _stuck(run: Run) -> bool:
    """Whether the best validation loss is hardly below the entropy of the target's unigrams."""
    if not (run.best and os.path.isdir(run.data)):
        return False
    target = training_target(run.data, run.log.config)
    return target is not None and run.best.loss > unigram_bits(target) - 1


def _profile_only(run: Run) -> bool:
    """Whether the last start only measured the profile (--init-type adaptive-profiling)."""
    scheme = SCHEMES.get(str(getattr(run.model, "init_type", None)))
    return scheme is not None and scheme.profiling is Profiling.WRITE


def _unreadable(run: Run) -> bool:
    """Whether the log has no training loss, though it has no configuration or shows training."""
    trained = bool(run.log.validation) or run.log.epochs > 0 or run.log.done
    return not run.log.training and (trained or not run.log.config)


VERDICTS = {
    "running": Verdict("a process trains in this folder now", lambda run: is_taken(run.folder)),
    "profile only": Verdict("the last start only measured a profile", _profile_only),
    "unreadable": Verdict(
        "no training loss was found, and the log has no configuration, or shows that the run "
        "trained: not a log of fairseq, or one with a progress bar",
        _unreadable,
    ),
    "diverged": Verdict(
        "the last loss is not finite, or fairseq stopped because gradients were not finite or the "
        "loss scale reached its minimum, or the training loss of the last interval is above that "
        "of the first",
        _diverged,
    ),
    "failed": Verdict("no update was logged", lambda run: not run.log.training),
    "unfinished": Verdict(
        "neither max_update nor max_epoch was reached, nor does the log say 'done training'",
        lambda run: not run.log.complete,
    ),
    "stuck": Verdict(
        "the best validation loss is less than one bit below the unigram entropy of the training "
        "target, sentence ends included (judged if the binarised data are still in place)",
        _stuck,
    ),
}
"""The verdicts on runs, by name, in the order in which they are tested."""

RULE = "; ".join(f"{name}: {verdict.rule}" for name, verdict in VERDICTS.items())


def find_runs(folders: Iterable[str]) -> list[Run]:
    """Read all runs (folders with a train.log) in and below ``folders``, each run once; raise
    AdminError for a folder that does not exist, or has none."""
    found: dict[str, Run] = {}
    for folder in folders:
        require_folder(folder)
        paths = [path for path, _, files in sorted(os.walk(folder)) if LOG in files]
        if not paths:
            raise AdminError(f"{folder}: no {LOG} there, nor in any folder below")
        for path in paths:
            found.setdefault(os.path.realpath(path), read_run(path))
    return list(found.values())


def read_run(folder: str) -> Run:
    """Read train.log, evaluation.json and profile.json in a run's folder; only the log must be
    there."""
    profile, evaluation = (os.path.join(folder, name) for name in (PROFILE, EVALUATION))
    return Run(
        folder,
        read_log(os.path.join(folder, LOG)),
        read_evaluation(evaluation) if os.path.exists(evaluation) else None,
        _read_profile(profile) if os.path.exists(profile) else None,
    )


def _read_profile(path: str) -> dict[str, Any]:
    """Read from profile.json how the profile (per-layer variances) was measured."""
    profile = read_profile(path)
    return {"path": path, "measurement": profile.measurement, "packages": profile.packages}
