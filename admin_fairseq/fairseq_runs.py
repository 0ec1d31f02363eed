"""fairseq's runs inside this process: options → configuration → model, batches."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Iterator, NoReturn, Sequence

from fairseq import options as fairseq_options
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask
from omegaconf import DictConfig, OmegaConf

from admin_fairseq.errors import AdminError

Batch = dict[str, Any]


def parse(words: Sequence[str]) -> Namespace:
    """What ``fairseq-train`` makes of these words; raises AdminError where it refuses them."""
    parser = fairseq_options.get_training_parser()
    parser.error = _refuse
    args = fairseq_options.parse_args_and_arch(parser, list(words))
    args.tpu = False  # fairseq takes --bf16 for a wish to use a TPU
    return args


def _refuse(message: str) -> NoReturn:
    raise AdminError(f"fairseq-train's options: {message}")


def build_model(run: DictConfig, task: FairseqTask) -> BaseFairseqModel:
    """The run's model, built so that ours cannot see the run: ω stays 1, no file is written."""
    model = run.model
    if OmegaConf.is_config(model):
        model = OmegaConf.create(OmegaConf.to_container(model, resolve=True, enum_to_str=True))
    return task.build_model(model)


def first_batches(
    task: FairseqTask, run: DictConfig, count: int, subset: str = "train"
) -> list[Batch]:
    """The first ``count`` batches of an epoch, which begins again where it is too short.

    Raises AdminError where no sentence fits.
    """
    task.load_dataset(subset)
    longest = utils.resolve_max_positions(task.max_positions(), run.dataset.max_tokens)
    try:
        epoch = task.get_batch_iterator(
            dataset=task.dataset(subset),
            max_tokens=run.dataset.max_tokens,
            max_positions=longest,
            ignore_invalid_inputs=True,
            required_batch_size_multiple=run.dataset.required_batch_size_multiple,
            seed=run.common.seed,
            epoch=1,
        ).next_epoch_itr(shuffle=True)
    except IndexError:  # what fairseq-fixed says to an empty data set
        epoch = ()
    batches = list(islice(epoch, count))
    if not batches:
        raise AdminError(f"no sentence fits into --max-tokens {run.dataset.max_tokens}")
    return list(islice(cycle(batches), count))


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
