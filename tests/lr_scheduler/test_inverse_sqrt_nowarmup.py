import pytest
import torch
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.lr_scheduler.inverse_sqrt_nowarmup import (
    InverseSqrtNoWarmup,
    InverseSqrtNoWarmupConfig,
)
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.radam import FairseqRAdam

periods, updates = st.integers(1, 10**6), st.integers(0, 10**7)


def schedule(lr=1.0, **options):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = FairseqRAdam(AdamOptions(lr=[7.0]), [parameter])
    return InverseSqrtNoWarmup(InverseSqrtNoWarmupConfig(lr=[lr], **options), optimizer)


def test_is_registered():
    assert LR_SCHEDULER_REGISTRY["inverse_sqrt_nowarmup"] is InverseSqrtNoWarmup


@pytest.mark.parametrize(
    ("updates", "lr"), [(0, 1.0), (500, 0.942809), (4000, 0.707107), (12000, 0.5), (396000, 0.1)]
)
def test_numbers_with_the_period_of_the_paper(updates, lr):
    assert schedule().step_update(updates) == pytest.approx(lr, rel=1e-6)


def test_first_update_has_the_highest_rate():
    schedule_ = schedule(lr=0.0005)
    assert schedule_.optimizer.get_lr() == 0.0005


def test_optimizer_gets_the_rate_and_epochs_change_nothing():
    schedule_ = schedule(lr=2.0, decay_period=100)
    assert schedule_.step_update(300) == schedule_.optimizer.get_lr() == 1.0
    assert schedule_.step(1) == schedule_.step(2, val_loss=3.0) == 1.0


@given(period=periods, update=updates)
def test_falls_always_and_stays_positive(period, update):
    lr_after = schedule(decay_period=period).lr_after
    assert 0 < lr_after(update + 1) <= lr_after(update) <= 1
    assert lr_after(2 * update + period) < lr_after(update)


@given(period=periods, lr=st.floats(1e-8, 10))
def test_half_the_peak_after_three_periods(period, lr):
    assert schedule(lr, decay_period=period).lr_after(3 * period) == pytest.approx(lr / 2)


@pytest.mark.parametrize("period", [0, -4000])
def test_period_must_be_positive(period):
    with pytest.raises(AdminError, match="--decay-period") as error:
        schedule(decay_period=period)
    assert len(str(error.value).splitlines()) == 1
