"""What a model learns from a batch before fairseq's trainer moves it."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.trainer import Trainer

from admin_fairseq.fast.layout import Layout, noted
from admin_fairseq.repairs.private import prepared


@pytest.fixture
def trainer(build):
    """As much of a trainer as prepares a batch on a CPU, with a model in fairseq's wrapper."""
    trainer = Trainer.__new__(Trainer)
    trainer.cfg = SimpleNamespace(
        common=SimpleNamespace(
            on_cpu_convert_precision=False, fp16=False, bf16=False, amp=False, tpu=False
        )
    )
    trainer.cuda = trainer.tpu = False
    trainer._dummy_batch = None
    trainer._model = torch.nn.Module()
    trainer._model.module = build(encoder_layers=1, decoder_layers=1)
    return trainer


def test_a_forward_pass_finds_what_the_model_has_seen(trainer, batch, monkeypatch):
    target = batch["prev_output_tokens"]
    sample, _ = prepared(trainer, {"net_input": batch, "target": target.clone()})
    monkeypatch.setattr(Layout, "of", None)  # whoever reads fails
    trainer._model.module(**sample["net_input"])
    assert torch.equal(
        noted(sample["target"], "target").kept, target.ne(1).flatten().nonzero()[:, 0]
    )


def test_batches_that_have_nothing_to_see(trainer):
    for sample in ({"net_input": {}}, {"en-de": {"net_input": {}}}):
        assert prepared(trainer, sample) == (sample, False)
    trainer._model = torch.nn.Linear(1, 1)  # not a model of the plugin
    assert prepared(trainer, {"net_input": {}}) == ({"net_input": {}}, False)
