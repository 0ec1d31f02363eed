"""fairseq runs inside this process: options → configuration → model and batches."""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentError, Namespace
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Iterator, NoReturn, Sequence

from fairseq import options as fairseq_options
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, OmegaConf

from admin_fairseq import bounds
from admin_fairseq.bounds import counting
from admin_fairseq.errors import AdminError

Batch = dict[str, Any]

BATCHES = {"required_batch_size_multiple": counting(1)}
"""Options that fairseq passes to C code, where 0 ends the process without a message."""


class OutOfMemory(AdminError):
    """A model and its batch do not fit."""

    def __init__(self, message: str = "out of memory; try a smaller --max-tokens") -> None:
        super().__init__(message)


def parse(words: Sequence[str]) -> Namespace:
    """Parse options as ``fairseq-train`` does; raises AdminError where it refuses them."""
    parser = fairseq_options.get_training_parser()
    parser.error = _refuse
    try:
        args = fairseq_options.parse_args_and_arch(parser, list(words))
    except ArgumentError as error:  # the task and the model define the same option
        _refuse(str(error))
    args.tpu = False  # fairseq's --bf16 implies --tpu
    return args


def _refuse(message: str) -> NoReturn:
    raise AdminError(f"fairseq-train's options: {message}")


def build_model(run: DictConfig, task: FairseqTask) -> BaseFairseqModel:
    """Build the run's model without its run: our models keep ω = 1 and write no profile."""
    model = run.model
    if OmegaConf.is_config(model):
        model = OmegaConf.create(OmegaConf.to_container(model, resolve=True, enum_to_str=True))
    return task.build_model(model)


def first_batches(
    task: FairseqTask, run: DictConfig, count: int, subset: str = "train"
) -> list[Batch]:
    """The first ``count`` batches of an epoch, repeated from its start if it is too short.

    Raises AdminError if the data cannot be read, or no sentence fits.
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
    """Turn what fairseq raises about contradicting options into one line."""
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
    """Turn torch's errors about memory into OutOfMemory."""
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
    """Turn what fairseq raises about unreadable or unsuitable data into one line."""
    bounds.check(run.dataset, BATCHES)
    try:
        yield
    except OSError as error:
        raise AdminError(
            f"{error.filename or run.task.data}: {error.strerror or error}; the data folder is "
            "what fairseq-preprocess wrote"
        ) from None
    except AssertionError as error:
        if not str(error):
            raise  # its traceback says more
        raise AdminError(f"{run.task.data}: {error}") from None
    except IndexError:  # raised by fairseq-fixed for an empty data set
        raise _nothing_fits(run) from None


def _nothing_fits(run: DictConfig) -> AdminError:
    folder = getattr(run.task, "data", None) or "made-up data"
    return AdminError(
        f"{folder}: no sentence fits into --max-tokens {run.dataset.max_tokens} "
        "and the model's positions"
    )


def check_batch(batch: Batch, task: FairseqTask, run: DictConfig) -> None:
    """Raise AdminError if ``batch`` has no targets, or tokens beyond the dictionaries."""
    if batch.get("target", ()) is None:  # a data set without target files
        raise AdminError(f"{run.task.data}: the files of the target language are missing")
    for name, dictionary in (
        ("src_tokens", task.source_dictionary),
        ("prev_output_tokens", task.target_dictionary),
    ):
        tokens = batch["net_input"].get(name)
        if tokens is not None and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(dictionary):
            raise AdminError(
                f"{run.task.data}: tokens beyond the {len(dictionary)} types of a dictionary; "
                "dictionaries of another data set, or damaged data"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence fairseq's log and its libraries' warnings."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
