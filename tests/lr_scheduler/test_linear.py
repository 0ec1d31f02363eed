import pytest
import torch
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.lr_scheduler.linear import LinearSchedule, LinearScheduleConfig
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.radam import FairseqRAdam

RECIPE = {"warmup_updates": 100, "warmup_init_lr": 0.2, "min_lr": 0.1, "max_update": 500}


def schedule(lr=1.0, **options):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = FairseqRAdam(AdamOptions(lr=[7.0]), [parameter])
    return LinearSchedule(LinearScheduleConfig(lr=[lr], **options), optimizer)


@st.composite
def schedules(draw):
    """A schedule, and what it was made of."""
    warmup = draw(st.integers(0, 1000))
    lr = draw(st.floats(1e-6, 10))
    recipe = {
        "warmup_updates": warmup,
        "warmup_init_lr": lr * draw(st.floats(0, 1)),
        "min_lr": lr * draw(st.floats(0, 1)),
        "max_update": warmup + draw(st.integers(1, 1000)),
    }
    return schedule(lr, **recipe)


def test_is_registered():
    assert LR_SCHEDULER_REGISTRY["linear"] is LinearSchedule


@pytest.mark.parametrize(
    ("updates", "lr"),
    [
        (0, 0.2),
        (1, 0.208),
        (50, 0.6),
        (100, 1.0),
        (101, 0.99775),
        (300, 0.55),
        (500, 0.1),
        (501, 0.1),
        (10**6, 0.1),
    ],
    ids=str,
)
def test_numbers(updates, lr):
    assert schedule(**RECIPE).step_update(updates) == pytest.approx(lr)


@pytest.mark.parametrize(("updates", "lr"), [(0, 1.0), (1, 0.998), (250, 0.5), (500, 0.0)])
def test_numbers_without_warmup(updates, lr):
    assert schedule(max_update=500).step_update(updates) == pytest.approx(lr)


def test_a_warmup_from_minus_one_starts_at_the_peak():
    """As in the release, whose default it is."""
    found = schedule(warmup_updates=100, warmup_init_lr=-1.0, max_update=500)
    assert found.optimizer.get_lr() == 1.0
    assert [found.step_update(n) for n in (0, 50, 100, 300)] == pytest.approx([1, 1, 1, 0.5])


def test_starts_at_the_warmup_rate():
    assert schedule(**RECIPE).optimizer.get_lr() == pytest.approx(0.2)
    assert schedule(max_update=500).optimizer.get_lr() == 1.0


def test_optimizer_gets_the_rate_and_epochs_change_nothing():
    schedule_ = schedule(**RECIPE)
    assert schedule_.step_update(300) == schedule_.optimizer.get_lr() == pytest.approx(0.55)
    assert schedule_.step(1) == schedule_.step(2, val_loss=3.0) == pytest.approx(0.55)


@given(schedule_=schedules(), update=st.integers(0, 3000))
def test_rises_until_the_peak_and_falls_after(schedule_, update):
    cfg = schedule_.cfg
    here, there = schedule_.lr_after(update), schedule_.lr_after(update + 1)
    slack = 1e-12 * schedule_.peak
    if update < cfg.warmup_updates:
        assert cfg.warmup_init_lr - slack <= here <= there + slack
    else:
        assert cfg.min_lr - slack <= there <= here + slack
    assert max(here, there) <= schedule_.peak + slack


@given(schedule_=schedules())
def test_corners_are_exact(schedule_):
    cfg = schedule_.cfg
    assert schedule_.lr_after(cfg.warmup_updates) == schedule_.peak
    assert schedule_.lr_after(cfg.max_update) == pytest.approx(cfg.min_lr, abs=1e-15)
    assert schedule_.lr_after(10 * cfg.max_update) == schedule_.lr_after(cfg.max_update)


@pytest.mark.parametrize(("warmup", "end"), [(0, 0), (100, 100), (100, 50)])
def test_decay_needs_an_end_after_the_warmup(warmup, end):
    with pytest.raises(AdminError, match="--max-update") as error:
        schedule(warmup_updates=warmup, max_update=end)
    assert "--warmup-updates" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("warmup_updates", -1),
        *(("warmup_init_lr", float("nan")), ("warmup_init_lr", -2.0)),
        ("min_lr", float("nan")),
        ("min_lr", -0.1),
        ("lr", -1.0),
        ("lr", float("inf")),
    ],
)
def test_numbers_that_make_no_schedule_are_named(option, value):
    with pytest.raises(AdminError, match=f"--{option.replace('_', '-')} takes a"):
        schedule(**{**RECIPE, option: value})
