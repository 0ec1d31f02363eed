"""The release's schedule ``poly`` is fairseq's ``polynomial_decay``, under other option names."""

import pytest
import torch
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import (
    PolynomialDecayLRSchedule,
    PolynomialDecayLRScheduleConfig,
)

from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.radam import FairseqRAdam


@pytest.mark.parametrize(("power", "min_lr"), [(2, 0.0), (1, 1e-5), (3.5, 1e-4)])
def test_fairseqs_schedule_gives_the_releases_rates(power, min_lr):
    lr, max_update = 1e-3, 400
    config = PolynomialDecayLRScheduleConfig(
        power=power, end_learning_rate=min_lr, total_num_update=max_update, lr=[lr]
    )
    optimizer = FairseqRAdam(AdamOptions(lr=[lr]), [torch.nn.Parameter(torch.zeros(1))])
    schedule = PolynomialDecayLRSchedule(config, optimizer)
    for update in (1, 7, 200, 399, 400):
        release = (lr - min_lr) * (1 - update / max_update) ** power + min_lr
        assert schedule.step_update(update) == pytest.approx(release, rel=1e-9)
