"""What is checked when a run builds its model."""

from contextlib import nullcontext

import pytest
from fairseq.models import build_model
from fairseq.modules import FairseqDropout
from omegaconf import OmegaConf
from torch import nn

from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from admin_fairseq.criterions.label_smoothed_cross_entropy_chunked import NAME
from admin_fairseq.errors import AdminError
from admin_fairseq.layers import transformer_stack
from admin_fairseq.models.building import _check_criterion, check_precision


@pytest.mark.parametrize("other", ["fp16", "bf16", "amp"])
def test_one_precision_at_a_time(other):
    config = resolve(AdminTransformerConfig(autocast="bfloat16"))
    run = OmegaConf.create({"common": {"fp16": False, "bf16": False, "amp": False}})
    check_precision(config, run)
    check_precision(config, None)
    run.common[other] = True
    with pytest.raises(AdminError, match=f"--autocast bfloat16 .* --{other} "):
        check_precision(config, run)
    check_precision(resolve(AdminTransformerConfig()), run)


@pytest.mark.parametrize(
    ("options", "distributed", "message"),
    [
        ({"adaptive_softmax_cutoff": "5,10"}, {}, "an adaptive softmax; use adaptive_loss"),
        ({}, {"ddp_backend": "fully_sharded"}, "--ddp-backend fully_sharded; use label_smoothed"),
        ({}, {"find_unused_parameters": True}, "--find-unused-parameters; use label_smoothed"),
        ({}, {}, None),
    ],
)
def test_a_criterion_says_at_once_that_it_cannot_take_the_model(
    options, distributed, message, build
):
    untold = {"ddp_backend": "legacy_ddp", "find_unused_parameters": False}
    run = {"criterion": {"_name": NAME}, "distributed_training": {**untold, **distributed}}
    refused = nullcontext() if message is None else pytest.raises(AdminError, match=message)
    with refused:
        _check_criterion(build(**options), OmegaConf.create(run))


def test_other_criterions_are_not_asked(build):
    model = build(adaptive_softmax_cutoff="5,10")
    for run in (None, OmegaConf.create({"criterion": {"_name": "cross_entropy"}})):
        _check_criterion(model, run)


@pytest.mark.parametrize(("options", "least"), [({}, 7), ({"checkpoint_activations": True}, 0)])
def test_layers_are_sharded_once_their_weights_are_set(options, least, build, monkeypatch):
    """What is spread over workers has nothing in it that could still be initialised."""
    found = []

    def shard(layer, min_num_params):
        found.append((min_num_params, layer.residuals["ffn"].omega.unique().item()))
        return layer

    monkeypatch.setattr(transformer_stack, "fsdp_wrap", shard)
    build(init_type="deepnet", min_params_to_wrap=7, **options)
    assert [number for number, _ in found] == [least] * 12
    assert len({omega for _, omega in found}) == 2 and min(found)[1] > 1


@pytest.mark.parametrize("arch", ["admin_transformer_tiny", "admin_transformer_lm_tiny"])
def test_a_model_that_trains_does_not_visit_its_modules_to_train(arch, build, task, monkeypatch):
    if arch.endswith("lm_tiny"):
        model = build_model(AdminLanguageModelConfig(_name=arch, decoder_layers=1), task)
    else:
        model = build(arch, encoder_layers=1, decoder_layers=1)
    visited = []
    train = nn.Module.train
    monkeypatch.setattr(
        nn.Module, "train", lambda m, mode=True: visited.append(m) or train(m, mode)
    )
    assert model.train() is model and not visited
    assert model.eval() is model and not any(m.training for m in model.modules())
    for module in model.modules():
        if isinstance(module, FairseqDropout):
            module.train()  # Monte Carlo dropout
    assert model.eval() is model and not any(m.training for m in model.modules())
    assert model.train() is model and all(m.training for m in model.modules())
    for stack in model.children():
        stack.eval()
        assert model.train() is model and all(m.training for m in model.modules())
