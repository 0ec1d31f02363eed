import pytest
import torch
from fairseq.models import build_model
from fairseq.models.transformer import TransformerModelBase
from torch import nn

from admin_fairseq.analysis.bench import FOR_HOOKS, Subject
from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.trace import layers_of, stacks_of, traced
from admin_fairseq.schemes import SCHEMES
from admin_fairseq.studies.options import Depth

from ..conftest import held

STOCK = {"stock Post-LN": False, "stock Pre-LN": True}
KINDS = [*SCHEMES, *STOCK, "language model"]
PADDED = [("encoder", "src_tokens"), ("decoder", "prev_output_tokens")]


def model_of(kind, task, noise=0.1):
    """A model none of whose parameters has a value that hides a mistake, such as 0 or 1."""
    torch.manual_seed(5)
    depths = {"encoder_layers": 2, "decoder_layers": 3}
    if kind in STOCK:
        norms = {f"{stack}_normalize_before": STOCK[kind] for stack in ("encoder", "decoder")}
        config = AdminTransformerConfig(
            _name="admin_transformer_tiny", init_type="default", **depths, **norms
        )
        model = TransformerModelBase.build_model(resolve(config).nested(), task)
    elif kind == "language model":
        config = AdminLanguageModelConfig(
            _name="admin_transformer_lm_tiny", decoder_layers=3, **FOR_HOOKS
        )
        model = build_model(config, task)
    else:
        config = AdminTransformerConfig(
            _name="admin_transformer_tiny", init_type=kind, **depths, **FOR_HOOKS
        )
        model = build_model(config, task)
    with torch.no_grad():
        for parameter in held(model).values():
            parameter += noise * torch.randn_like(parameter)
    for module in model.modules():
        if hasattr(module, "ever_training"):
            module.ever_training = True
    return model.eval()


def inputs_of(kind, batch):
    return {"src_tokens": batch["prev_output_tokens"]} if kind == "language model" else batch


def hooks_of(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    own = [vars(m).get("residual_connection") for m in model.modules()]
    return hooks, own


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind, task):
    return model_of(kind, task)


def test_watching_changes_no_bit_and_leaves_no_hook(kind, model, batch):
    before = hooks_of(model)
    for training in (False, True):
        model.train(training)
        outputs = []
        for watch in (False, True, False):
            torch.manual_seed(3)
            if watch:
                with traced(model):
                    outputs.append(model(**inputs_of(kind, batch))[0])
            else:
                outputs.append(model(**inputs_of(kind, batch))[0])
        assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    assert hooks_of(model) == before


def test_hooks_are_gone_after_an_error(model):
    before = hooks_of(model)
    with pytest.raises(ZeroDivisionError), traced(model):
        assert hooks_of(model) != before
        raise ZeroDivisionError
    assert hooks_of(model) == before


def test_hooks_are_gone_after_an_error_within_a_layer(kind, model, batch):
    before = hooks_of(model)
    last = layers_of(model.decoder)[-1]
    last.fc2.weight = nn.Parameter(torch.ones(1, 1))
    with pytest.raises(RuntimeError), traced(model):
        model(**inputs_of(kind, batch))
    assert hooks_of(model) == before


def test_gradients_are_those_of_the_model_alone(kind, model, batch):
    def gradients():
        model.zero_grad()
        model(**inputs_of(kind, batch))[0].square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone = gradients()
    with traced(model):
        watched = gradients()
    assert all(map(torch.equal, alone, watched))


def test_sublayers_stand_in_order_and_end_in_the_layers_output(kind, model, batch):
    returned = {name: [] for name in stacks_of(model)}
    for name, stack in stacks_of(model).items():
        for layer in layers_of(stack):
            layer.register_forward_hook(
                lambda module, inputs, output, name=name: returned[name].append(
                    output[0] if isinstance(output, tuple) else output
                )
            )
    with torch.no_grad(), traced(model) as trace:
        model(**inputs_of(kind, batch))
    for stack in trace.values():
        if stack.connections is None:
            assert len(stack.inputs) == 1 and stack.inputs[0] is stack.sublayers[0].x
        else:  # the stack's input and every layer's output
            assert len(stack.inputs) == 1 + len(stack.layers)
    alone = kind == "language model"
    names = {"encoder": ["self_attn", "ffn"], "decoder": ["self_attn", "encoder_attn", "ffn"]}
    for name, stack in trace.items():
        expected = ["self_attn", "ffn"] if alone else names[name]
        assert [[s.name for s in layer] for layer in stack.layers] == [expected] * len(stack.layers)
        for layer, output in zip(stack.layers, returned[name]):
            assert torch.equal(layer[-1].output, output)
            for one, following in zip(layer, layer[1:]):
                assert following.x is one.output
            for s in layer:
                bottom = layer[0].x if s.adds_bottom else 0
                torch.testing.assert_close(s.summed, s.join(s.x, s.branch) + bottom)
                if s.norm is not None:
                    torch.testing.assert_close(s.output, s.norm(s.summed))


def test_recomputed_layers_are_seen_once(bench):
    words = ("postln_transformer_tiny", "--checkpoint-activations")
    specimen = bench.put(Subject(words), Depth(2, 2))
    with traced(specimen.model) as trace:
        loss = specimen.loss()
    loss.backward()
    assert [len(stack.sublayers) for stack in trace.values()] == [4, 6]


def test_other_models_are_refused():
    model = nn.Module()
    with pytest.raises(AdminError, match="not a fairseq transformer"):
        stacks_of(model)
    model.decoder = nn.Module()
    model.decoder.layers = nn.ModuleList([nn.LSTMCell(2, 2)])
    with pytest.raises(AdminError, match="its decoder has a LSTMCell"):
        stacks_of(model)
