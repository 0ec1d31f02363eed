"""Our schedules, and fairseq's where it has the same one, against the release's and T-Fixup's."""

import pytest
import torch
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import (
    PolynomialDecayLRSchedule,
    PolynomialDecayLRScheduleConfig,
)

from admin_fairseq.errors import AdminError
from admin_fairseq.lr_scheduler.inverse_sqrt_nowarmup import (
    InverseSqrtNoWarmup,
    InverseSqrtNoWarmupConfig,
)
from admin_fairseq.lr_scheduler.linear import LinearSchedule, LinearScheduleConfig
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.radam import FairseqRAdam

from . import numbers

LINEAR, POLY = (numbers(name)["runs"] for name in ("linear", "poly"))
NO_WARMUP = numbers("inverse_sqrt_nowarmup")["schedules"]
NEGATIVE = "recipe, least rate by default"


def optimizer():
    return FairseqRAdam(AdamOptions(lr=[7.0]), [torch.nn.Parameter(torch.zeros(1))])


def linear(options):
    given = {**options, "lr": [options["lr"]]}
    return LinearSchedule(LinearScheduleConfig(**given), optimizer())


def follows(schedule, rates):
    found = [schedule.step_update(update) for update in range(len(rates))]
    return found == pytest.approx(rates, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", [name for name in LINEAR if name != NEGATIVE])
def test_linear(name):
    schedule = linear(LINEAR[name]["options"])
    assert schedule.optimizer.get_lr() == pytest.approx(LINEAR[name]["rates"][0])
    assert follows(schedule, LINEAR[name]["rates"])


def test_linear_to_below_zero_is_refused():
    """The release trains on with such rates, from the second update of this run to its last."""
    assert all(rate < 0 for rate in LINEAR[NEGATIVE]["rates"][2:])
    with pytest.raises(AdminError, match="--min-lr"):
        linear(LINEAR[NEGATIVE]["options"])


@pytest.mark.parametrize("run", POLY, ids=lambda run: f"power {run['options']['poly_pow']}")
def test_poly_is_fairseqs_polynomial_decay(run):
    options = run["options"]
    config = PolynomialDecayLRScheduleConfig(
        lr=[options["lr"]],
        power=options["poly_pow"],
        end_learning_rate=options["min_lr"],
        total_num_update=options["max_update"],
    )
    assert follows(PolynomialDecayLRSchedule(config, optimizer()), run["rates"])


@pytest.mark.parametrize("theirs", NO_WARMUP, ids=lambda s: f"{s['lr']}-{s['decay_period']}")
def test_inverse_sqrt_nowarmup(theirs):
    config = InverseSqrtNoWarmupConfig(lr=[theirs["lr"]], decay_period=theirs["decay_period"])
    ours = InverseSqrtNoWarmup(config, optimizer())
    assert ours.optimizer.get_lr() == theirs["built"]
    found = {updates: ours.step_update(int(updates)) for updates in theirs["after"]}
    assert found == pytest.approx(theirs["after"], rel=1e-12)


def test_default_period_of_inverse_sqrt_nowarmup():
    assert InverseSqrtNoWarmupConfig().decay_period == NO_WARMUP[0]["decay_period"]
