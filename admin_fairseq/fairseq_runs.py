"""Use fairseq inside this process: parse its options, build its models, load its batches."""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentError, Namespace
from contextlib import contextmanager
from dataclasses import fields
from itertools import cycle, islice
from typing import Any, Iterator, Mapping, NoReturn, Sequence

from fairseq import options as fairseq_options
from fairseq import utils
from fairseq.dataclass.configs import OptimizationConfig
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from admin_fairseq import bounds
from admin_fairseq.bounds import counting, spelled
from admin_fairseq.errors import AdminError
from admin_fairseq.repairs.private import options_of

Batch = dict[str, Any]

BATCHES = {"required_batch_size_multiple": counting(1)}
"""Ranges of options that fairseq passes to C code, where 0 would end the process without a message.
"""


class OutOfMemory(AdminError):
    """The error that a model and its batch do not fit into memory."""

    def __init__(self, message: str = "out of memory; try a smaller --max-tokens") -> None:
        super().__init__(message)


CHOSEN = ("task", "model", "criterion", "optimizer", "lr_scheduler")
"""Sections of fairseq's configuration whose options depend on the class that is chosen."""

DECISIVE = {
    "optimization": tuple(field.name for field in fields(OptimizationConfig)),
    "dataset": ("max_tokens", "batch_size"),
    "common": ("seed", "amp", "fp16", "bf16", "memory_efficient_fp16", "memory_efficient_bf16"),
}
"""Other section → its options on which the trained weights depend."""


def parse(words: Sequence[str]) -> Namespace:
    """Parse ``words``, the arguments of ``fairseq-train``; raise AdminError if they are invalid."""
    return _parsed(fairseq_options.get_training_parser(), words)


def _parsed(parser: Any, words: Sequence[str]) -> Namespace:
    parser.error = _refuse
    try:
        args = fairseq_options.parse_args_and_arch(parser, list(words))
    except ArgumentError as error:  # the task and the model define the same option
        _refuse(str(error))
    args.tpu = False  # fairseq's --bf16 implies --tpu
    return args


def words_of(run: Mapping[str, Any]) -> list[str]:
    """Return arguments of ``fairseq-train`` for the configuration ``run`` of a checkpoint.

    They are without data, devices and workers, and without options that have their default. Raises
    AdminError if fairseq does not know a choice of the run.
    """
    words = []
    for section in CHOSEN:
        choice = _section(run, section).get("_name")
        option = spelled("arch" if section == "model" else section)
        words += [option, str(choice)] if choice else []
    parser = fairseq_options.get_training_parser()
    defaults = _nested(_parsed(parser, ["data", *words]))
    changed = _changed(run, defaults)
    for action in options_of(parser):
        value = changed.get(action.dest)
        if action.option_strings and value is not None:
            option = next(word for word in action.option_strings if word.startswith("--"))
            if action.nargs != 0:
                words += [option, _as_word(value)]
            elif value:
                words.append(option)
    return words


def _changed(run: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, and their values, by which two runs differ in the weights they train."""
    decisive = {name for names in DECISIVE.values() for name in names}
    # the section of a class without a dataclass, a Namespace, has the options of all others too
    others = {name for part in defaults.keys() - CHOSEN for name in _section(defaults, part)}
    return {
        name: value
        for section in (*CHOSEN, *DECISIVE)
        for name, value in _section(run, section).items()
        if (name in decisive or name not in others)
        and value != _section(defaults, section).get(name)
    }


def _nested(args: Namespace) -> Any:
    """Return parsed options as a configuration in plain types.

    Raises AdminError if they do not fit together, as a model and a task of another kind.
    """
    try:
        run = convert_namespace_to_omegaconf(args)
        return OmegaConf.to_container(run, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        _refuse(str(error).splitlines()[0])


def _section(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a configuration, which for a class without a dataclass is a Namespace."""
    found = run.get(name)
    return vars(found) if isinstance(found, Namespace) else found or {}


def _as_word(value: Any) -> str:
    """Write a value as fairseq's parser reads it: a list with commas."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _refuse(message: str) -> NoReturn:
    """Raise AdminError for options that fairseq-train's parser refuses."""
    raise AdminError(f"fairseq-train's options: {message}")


def build_model(run: DictConfig, task: FairseqTask) -> BaseFairseqModel:
    """Build the model of ``run`` without starting the run.

    The model gets its own options only, not the run's. So a model of this plugin measures no
    profile, and Admin's residual scales ω stay 1.
    """
    model = run.model
    if OmegaConf.is_config(model):
        model = OmegaConf.create(OmegaConf.to_container(model, resolve=True, enum_to_str=True))
    return task.build_model(model)


def first_batches(
    task: FairseqTask, run: DictConfig, count: int, subset: str = "train"
) -> list[Batch]:
    """Return the first ``count`` batches of the first epoch, in the order of training.

    An epoch with fewer batches is repeated. Raises AdminError if the data cannot be read, or if no
    sentence fits into --max-tokens.
    """
    with telling_of_data(run):
        task.load_dataset(subset)
        longest = utils.resolve_max_positions(task.max_positions(), run.dataset.max_tokens)
        epoch = task.get_batch_iterator(
            dataset=task.dataset(subset),
            max_tokens=run.dataset.max_tokens,
            max_positions=longest,
            ignore_invalid_inputs=True,
            required_batch_size_multiple=run.dataset.required_batch_size_multiple,
            seed=run.common.seed,
            epoch=1,
        ).next_epoch_itr(shuffle=True)
        batches = list(islice(epoch, count))
    if not batches:
        raise _nothing_fits(run)
    for batch in batches:
        check_batch(batch, task, run)
    return list(islice(cycle(batches), count))


@contextmanager
def naming_errors(who: object, what: str) -> Iterator[None]:
    """Turn any exception in the block into an AdminError: ``who``: fairseq cannot ``what`` it.

    fairseq raises exceptions of many kinds for options that contradict each other; only the first
    line is kept. Running out of memory raises OutOfMemory.
    """
    try:
        with naming_out_of_memory():
            yield
    except AdminError:
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise AdminError(f"{who}: fairseq cannot {what} it: {lines[0]}") from None


@contextmanager
def naming_out_of_memory() -> Iterator[None]:
    """Turn torch's and Python's errors about memory in the ``with`` block into OutOfMemory."""
    try:
        yield
    except MemoryError:
        raise OutOfMemory from None
    except RuntimeError as error:
        # the second is its message on a CPU
        if not any(words in str(error) for words in ("out of memory", "you tried to allocate")):
            raise
        raise OutOfMemory from None


@contextmanager
def telling_of_data(run: DictConfig) -> Iterator[None]:
    """Turn fairseq's exceptions about unreadable or unsuitable data into AdminError."""
    bounds.check(run.dataset, BATCHES)
    try:
        yield
    except OSError as error:
        raise AdminError(
            f"{error.filename or run.task.data}: {error.strerror or error}; the data folder must "
            "be one that fairseq-preprocess wrote"
        ) from None
    except AssertionError as error:
        if not str(error):
            raise  # its traceback says more
        raise AdminError(f"{run.task.data}: {error}") from None
    except IndexError:  # raised by fairseq-fixed for an empty data set
        raise _nothing_fits(run) from None


def _nothing_fits(run: DictConfig) -> AdminError:
    """Return the error for data of which no sentence fits into a batch."""
    folder = getattr(run.task, "data", None) or "made-up data"
    return AdminError(
        f"{folder}: no sentence fits into --max-tokens {run.dataset.max_tokens} "
        "and the model's positions"
    )


def check_batch(batch: Batch, task: FairseqTask, run: DictConfig) -> None:
    """Raise AdminError if ``batch`` has no targets, or token numbers outside the dictionaries."""
    if batch.get("target", ()) is None:  # a data set without target files
        raise AdminError(f"{run.task.data}: the files of the target language are missing")
    for name, dictionary in (
        ("src_tokens", task.source_dictionary),
        ("prev_output_tokens", task.target_dictionary),
    ):
        tokens = batch["net_input"].get(name)
        if tokens is not None and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(dictionary):
            raise AdminError(
                f"{run.task.data}: token numbers outside a dictionary of {len(dictionary)} types; "
                "the dictionary belongs to another data set, or the data is damaged"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence fairseq's log messages and all warnings inside the ``with`` block."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
