"""Going on with the state of another optimiser."""

import copy
import re
from functools import cache
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import parse
from admin_fairseq.repairs.optimizer_state import check

OPTIMIZERS = ["adam", "adam_fused", "radam", "novograd", "sgd"]
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="fairseq's fp16 needs CUDA")
PRECISIONS = [
    pytest.param([], id="fp32"),
    pytest.param(["--bf16"], id="bf16"),
    pytest.param(["--fp16"], id="fp16", marks=NEEDS_CUDA),
]
GO_ON = [{"adam", "adam_fused"}]


@cache  # fairseq takes half a second to parse a command line
def run_of(optimizer, *words):
    device = [] if "--fp16" in words else ["--cpu"]
    needs = ["--fp16-no-flatten-grads"] if optimizer == "novograd" else []
    command = ["data", "--arch", "postln_transformer_tiny", "--max-tokens", "9"]
    options = ["--optimizer", optimizer, "--lr", "0.1", *needs, *words, *device]
    return convert_namespace_to_omegaconf(parse([*command, *options]))


@pytest.fixture
def trainer_of(build, task):
    def trainer_of(optimizer, *words):
        run = copy.deepcopy(run_of(optimizer, *words))
        model = build("postln_transformer_tiny", encoder_layers=1, decoder_layers=1)
        criterion = CrossEntropyCriterion(task, sentence_avg=False)
        return Trainer(run, FairseqTask(SimpleNamespace()), model, criterion)

    return trainer_of


def save(trainer, path):
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(path, {"train_iterator": {"epoch": 1}})


@pytest.mark.parametrize("words", PRECISIONS)
@pytest.mark.parametrize("saved, now", list(product(OPTIMIZERS, OPTIMIZERS)))
def test_only_the_same_one_goes_on(saved, now, words, trainer_of, tmp_path):
    path = str(tmp_path / "checkpoint.pt")
    save(trainer_of(saved, *words), path)
    trainer = trainer_of(now, *words)
    if saved == now or {saved, now} in GO_ON:
        trainer.load_checkpoint(path)
        return
    told = f"{path}: .* --optimizer {saved}, .* --optimizer {now}; add --reset-optimizer"
    with pytest.raises(AdminError, match=told):
        trainer.load_checkpoint(path)
    trainer.load_checkpoint(path, reset_optimizer=True)


@pytest.mark.parametrize(
    "saved, now",
    [
        ([], ["--bf16"]),
        (["--bf16"], []),
        pytest.param(["--fp16", "--fp16-no-flatten-grads"], ["--fp16"], marks=NEEDS_CUDA),
    ],
)
def test_another_precision_gets_one_line(saved, now, trainer_of, tmp_path):
    path = str(tmp_path / "checkpoint.pt")
    save(trainer_of("adam", *saved), path)
    with pytest.raises(AdminError, match=f"{path}: .*--reset-optimizer"):
        trainer_of("adam", *now).load_checkpoint(path)


def test_a_state_of_other_tensors_gets_one_line(trainer_of, tmp_path):
    path = str(tmp_path / "checkpoint.pt")
    save(trainer_of("adam"), path)
    state = torch.load(path, weights_only=True)
    state["last_optimizer_state"]["param_groups"][0]["params"].pop()
    torch.save(state, path)
    with pytest.raises(AdminError, match=f"{path}: .*--reset-optimizer"):
        trainer_of("adam").load_checkpoint(path)


@pytest.mark.parametrize("words", PRECISIONS)
def test_moments_of_another_size_get_one_line(words, trainer_of, tmp_path):
    """As of a classification head with another number of classes."""
    path = str(tmp_path / "checkpoint.pt")
    trainer = trainer_of("adam", *words)
    trainer.optimizer.backward(sum(p.sum() for p in trainer.model.parameters()))
    trainer.optimizer.step()
    save(trainer, path)
    trainer_of("adam", *words).load_checkpoint(path)
    state = torch.load(path, weights_only=True)
    moments = state["last_optimizer_state"]["state"][0]
    for other in (torch.zeros(7), moments["exp_avg"][None]):
        moments["exp_avg"] = other
        torch.save(state, path)
        size = f"its optimiser's state is for a weight of size {tuple(other.shape)}"
        message = f"^{re.escape(f'{path}: {size}')}, .*--reset-optimizer.*--finetune-from-model"
        with pytest.raises(AdminError, match=message):
            trainer_of("adam", *words).load_checkpoint(path)
    trainer_of("adam", *words).load_checkpoint(path, reset_optimizer=True)


def test_a_run_that_starts_is_not_compared(trainer_of, tmp_path, monkeypatch):
    """fairseq's optimizer composite has no groups of weights to compare."""
    trainer = trainer_of("adam")
    composite = property(lambda self: SimpleNamespace(optimizer=None))
    monkeypatch.setattr(Trainer, "optimizer", composite)
    assert trainer.load_checkpoint(str(tmp_path / "none.pt")) is None


@pytest.mark.parametrize(
    "options",
    [{}, {"cfg": None, "args": None}, {"cfg": {"optimizer": None}}, {"args": SimpleNamespace()}],
)
def test_a_checkpoint_that_does_not_say_is_left_to_fairseq(options):
    check({**options, "last_optimizer_state": {}}, "adam")


def test_options_of_fairseq_0_8():
    state = {"args": SimpleNamespace(optimizer="sgd"), "last_optimizer_state": {}}
    with pytest.raises(AdminError, match="--optimizer sgd"):
        check(state, "adam")
    check({**state, "last_optimizer_state": None}, "adam")
