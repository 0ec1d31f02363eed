"""--log-dynamics, in a trainer of fairseq's own."""

import copy
import json
import math
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import progress_bar
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from admin_fairseq import dynamics
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import parse
from admin_fairseq.hooks.moments import real_tokens
from admin_fairseq.hooks.trace import traced
from admin_fairseq.modules.residual import GrowingResidual
from admin_fairseq.schemes import SCHEMES
from tests.criterions.test_packed_loss import BATCHES, batch_of

SIZES = {"encoder_layers": 2, "decoder_layers": 2}
KINDS = ["default", "adaptive", "subln", "b2t", "rezero"]
"""Schemes that differ most in their sublayers. bf16 is the trainer's affair, whatever the scheme,
and tried with these alone."""


@cache  # fairseq takes half a second to parse a command line
def run_of(*words):
    command = ["data", "--arch", "admin_transformer_tiny", "--max-tokens", "99", "--cpu"]
    options = ["--optimizer", "adam", "--lr", "0.01", "--clip-norm", "0.5", "--log-dynamics", "2"]
    return convert_namespace_to_omegaconf(parse([*command, *options, *words]))


@pytest.fixture
def lines(monkeypatch):
    found = []
    monkeypatch.setattr(dynamics, "write", lambda name, line: found.append(line))
    return found


@pytest.fixture
def trainer_of(build, task):
    def trainer_of(scheme, *words, interval=2):
        run = copy.deepcopy(run_of(*words))
        run.model.log_dynamics = interval
        model = build("admin_transformer_tiny", init_type=scheme, **SIZES)
        criterion = LabelSmoothedCrossEntropyCriterion(task, False, 0.1)
        return Trainer(run, FairseqTask(SimpleNamespace()), model, criterion)

    return trainer_of


@pytest.fixture
def samples(task):
    return [batch_of(task.source_dictionary, *b, seed=i) for i, b in enumerate(BATCHES)]


def train(trainer, samples):
    """One update for each sample; returns their losses, and gradients' norms before clipping."""
    for sample in samples:
        sample["nsentences"] = len(sample["target"])
    losses, norms, clip = [], [], trainer.clip_grad_norm

    def clipped(most):
        norms.append(clip(most).item())
        return torch.tensor(norms[-1])

    trainer.clip_grad_norm = clipped
    for sample in samples:
        losses.append(trainer.train_step([sample])["loss"])
    trainer.clip_grad_norm = clip
    return losses, norms


@pytest.mark.parametrize(
    ("scheme", "words"),
    [*((scheme, ()) for scheme in SCHEMES), *((scheme, ("--bf16",)) for scheme in KINDS)],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "fp32",
)
def test_every_second_update_is_logged_and_none_is_changed(
    scheme, words, trainer_of, samples, lines
):
    trainers = [trainer_of(scheme, *words, interval=n) for n in (0, 2)]
    trainers[1].model.load_state_dict(trainers[0].model.state_dict())
    stock, watched = (train(trainer, samples) for trainer in trainers)
    assert stock == watched
    for one, other in zip(trainers[0].model.parameters(), trainers[1].model.parameters()):
        assert torch.equal(one, other)
    assert [line["update"] for line in lines] == [2, 4]
    for line, norm in zip(lines, watched[1][1::2]):
        assert len(line["sublayers"]) == 2 * 2 + 2 * 3
        parts = [*line["sublayers"], line["others"]]
        whole = math.sqrt(sum(part["gradient"] ** 2 for part in parts))
        assert whole == pytest.approx(min(norm, 0.5), rel=1e-3)
        json.dumps(line, allow_nan=False)


def test_scales_variances_and_norms_are_those_of_the_model(trainer_of, samples, lines, build):
    trainer = trainer_of("adaptive", interval=1)
    before = copy.deepcopy(trainer.get_model()).eval()
    (sample, *_) = samples
    train(trainer, [sample])
    after = trainer.get_model()
    with torch.no_grad(), traced(before) as stacks:
        before(**sample["net_input"])
    (line,) = lines
    expected = []
    for name, stack in stacks.items():
        real = real_tokens(before, name, sample)
        for number, layer in enumerate(stack.layers):
            expected += [(name, number, s, s.x[real], s.branch[real]) for s in layer]
    weights, new = dict(before.named_parameters()), dict(after.named_parameters())
    for found, (stack, number, sublayer, x, branch) in zip(line["sublayers"], expected):
        place = found["stack"], found["layer"], found["sublayer"]
        assert place == (stack, number, sublayer.name)
        assert found["input_variance"] == pytest.approx(x.double().var(unbiased=False).item())
        assert found["branch_variance"] == pytest.approx(branch.double().var(unbiased=False).item())
        begin = f"{stack}.layers.{number}."
        own = {
            "self_attn": ("self_attn.", "self_attn_layer_norm."),
            "encoder_attn": ("encoder_attn.", "encoder_attn_layer_norm."),
            "ffn": ("fc1.", "fc2.", "final_layer_norm."),
        }[sublayer.name]
        names = [n for n in weights if n.startswith(tuple(begin + part for part in own))]
        size = math.sqrt(sum(weights[n].square().sum().item() for n in names))
        moved = math.sqrt(sum((new[n] - weights[n]).square().sum().item() for n in names))
        assert found["weights"] == pytest.approx(size, rel=1e-5)
        assert found["update"] == pytest.approx(moved, rel=1e-3) and moved > 0
        omega = weights[f"{begin}residuals.{sublayer.name}.omega"]
        assert found["scale"] == {
            "min": omega.min().item(),
            "mean": pytest.approx(omega.mean().item()),
            "max": omega.max().item(),
        }


def test_a_growing_scale_is_that_of_the_update(trainer_of, samples, lines):
    trainer = trainer_of("branchnorm", "--branchnorm-updates", "4", interval=1)
    for module in trainer.get_model().modules():
        if isinstance(module, GrowingResidual):
            module.updates = 4
    train(trainer, samples[:3])
    scales = [line["sublayers"][0]["scale"]["mean"] for line in lines]
    assert scales == [0, 0.25, 0.5]


@pytest.mark.parametrize("words", [(), ("--bf16",)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("scheme", KINDS)
def test_each_validation_has_the_dependency_of_its_first_batch(
    scheme, words, trainer_of, samples, lines
):
    trainer = trainer_of(scheme, *words, interval=100)
    for sample in samples:
        sample["nsentences"] = len(sample["target"])
    for _ in range(2):
        for sample in samples:
            trainer.valid_step(sample)
        train(trainer, samples[:1])
    assert [line["update"] for line in lines] == [0, 1]
    for line in lines:
        for stack, count in (("encoder", 4), ("decoder", 6)):
            beta, own = (line["dependency"][stack][key] for key in ("beta", "own"))
            assert [len(row) for row in beta] == list(range(1, count + 2))
            assert own == pytest.approx(sum(row[-1] ** 2 for row in beta[1:]), rel=1e-4)


def test_an_update_that_amp_repeats_is_logged_once(trainer_of, samples, lines):
    """fairseq repeats it, after an overflow, by recursion."""
    trainer = trainer_of("adaptive", "--amp", interval=1)
    clip, norms = trainer.clip_grad_norm, [math.inf]
    trainer.clip_grad_norm = lambda most: torch.tensor(norms.pop()) if norms else clip(most)
    samples[0]["nsentences"] = 3
    trainer.train_step(samples[:1])
    trainer.train_step(samples[:1])
    assert [line["update"] for line in lines] == [1, 2] and not norms


def test_an_update_that_amp_skips_is_not_logged(trainer_of, samples, lines):
    trainer = trainer_of("adaptive", "--amp", interval=1)
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(math.nan)
    trainer.clip_grad_norm = lambda most: torch.tensor(math.nan)
    samples[0]["nsentences"] = 3
    trainer.train_step(samples[:1])
    assert not lines


def test_measuring_computes_no_logits(trainer_of, samples, lines, monkeypatch):
    """With the chunked loss, B x T x V of them may not fit into memory."""
    trainer = trainer_of("adaptive", interval=1)
    given, forward = [], type(trainer.model).forward

    def noted(model, *args, **kwargs):
        given.append(kwargs.get("features_only", False))
        return forward(model, *args, **kwargs)

    monkeypatch.setattr(type(trainer.model), "forward", noted)
    samples[0]["nsentences"] = 3
    trainer.valid_step(samples[0])
    trainer.train_step(samples[:1])
    assert given == [True, False, True, False]


def test_numbers_that_json_lacks_are_null():
    found = dynamics._finite({"a": [math.inf, {"b": math.nan, "c": 1.5}], "d": 2, "e": "x"})
    assert found == {"a": [None, {"b": None, "c": 1.5}], "d": 2, "e": "x"}


def run_with(ddp_backend, no_save=False):
    return SimpleNamespace(
        distributed_training=SimpleNamespace(ddp_backend=ddp_backend),
        checkpoint=SimpleNamespace(no_save=no_save),
    )


def test_sharded_weights_are_refused_and_runs_that_save_nothing_warned_of(caplog):
    with pytest.raises(AdminError, match=r"--log-dynamics does not work .* fully_sharded"):
        dynamics.check(10, run_with("fully_sharded"))
    dynamics.check(0, run_with("fully_sharded"))
    dynamics.check(10, run_with("legacy_ddp"))
    assert not caplog.messages
    dynamics.check(10, run_with("legacy_ddp", no_save=True))
    assert caplog.messages == ["--no-save: there will be no dynamics.jsonl in --save-dir"]


def test_a_dependency_that_cannot_be_computed_ends_no_run(
    trainer_of, samples, lines, monkeypatch, caplog
):
    def refuse(*args):
        raise AdminError("not the sum")

    monkeypatch.setattr(dynamics, "dependencies", refuse)
    samples[0]["nsentences"] = 3
    trainer_of("default").valid_step(samples[0])
    assert lines == [{"update": 0, "dependency": {}}]
    assert "no layer dependency: not the sum" in caplog.text


def test_weights_and_biases_gets_the_numbers_if_a_project_is_named(
    trainer_of, samples, lines, monkeypatch
):
    logged = {}

    def log(found, step):
        logged.setdefault(step, {}).update(found)

    calls = {"init": lambda **how: None, "log": log}
    monkeypatch.setattr(progress_bar, "wandb", SimpleNamespace(**calls))
    train(trainer_of("adaptive"), samples)
    assert lines and not logged
    train(trainer_of("adaptive", "--wandb-project", "deep"), samples)
    updates = [line["update"] for line in lines if "sublayers" in line]
    assert list(logged) == sorted(set(updates))
    place = re.compile(r"dynamics/\w+/((encoder|decoder)\.[01]\.\w+|others)")
    assert len(logged[2]) > 10 * 5 and all(map(place.fullmatch, logged[2]))
