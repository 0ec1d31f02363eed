import copy

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim import build_optimizer
from fairseq.optim.adam import Adam, FairseqAdam, FairseqAdamConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.optim import adam_steps
from admin_fairseq.optim.adam_fused import FairseqAdamFused
from admin_fairseq.optim.adam_options import AdamOptions
from admin_fairseq.optim.adam_steps import AdamSteps, has_fused_kernel

UPDATES = 100
CLOSE = {torch.float32: 1e-6, torch.float64: 1e-12}
OPTIONS = {"betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.01}
SHAPES = [(3, 4), (5,), (1,), (2, 1, 3), ()]


def weights(shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(_drawn(generator, shape, dtype)) for shape in shapes]


def _drawn(generator, shape, dtype):
    # in float64 first, so that both types are given the same numbers
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


class Updates:
    """Gradients, some of which are missing, and a learning rate that warms up and decays."""

    def __init__(self, params, lr=0.01, size=1.0, missing=0.0, clip=0.0, seed=1):
        self.params, self.lr, self.size = params, lr, size
        self.missing, self.clip = missing, clip
        self.generator, self.t = torch.Generator().manual_seed(seed), 0

    def __call__(self, *optimizers):
        """The same update for each optimiser's parameters."""
        self.t += 1
        grads = [self._gradient(p) for p in self.params]
        for optimizer in optimizers:
            group = optimizer.param_groups[0]
            group["lr"] = self.lr * min(self.t / 20, (20 / self.t) ** 0.5)
            for p, grad in zip(group["params"], grads):
                p.grad = None if grad is None else grad.clone()
            if self.clip:
                torch.nn.utils.clip_grad_norm_(group["params"], self.clip)
            optimizer.step()

    def _gradient(self, p):
        grad = self.size * _drawn(self.generator, p.shape, p.dtype)
        absent = torch.rand((), generator=self.generator) < self.missing
        return None if absent else grad


def pair(params, **options):
    """fairseq's optimiser and ours, each with weights of its own."""
    options = {"lr": 0.0, **OPTIONS, **options}
    mine = [torch.nn.Parameter(p.detach().clone()) for p in params]
    return Adam(params, **options), AdamSteps(mine, **options)


def assert_same(first, second, tolerance):
    for one, other in zip(first.param_groups[0]["params"], second.param_groups[0]["params"]):
        assert torch.allclose(one, other, rtol=0, atol=tolerance), (one - other).abs().max()
        states = first.state.get(one, {}), second.state.get(other, {})
        assert states[0].keys() == states[1].keys()
        if states[0]:
            assert states[0]["step"] == states[1]["step"]
            for key in ("exp_avg", "exp_avg_sq"):
                theirs, ours = (state[key] for state in states)
                largest = max(1.0, theirs.abs().max())  # what cancels was rounded when it was large
                assert torch.allclose(theirs, ours, rtol=1e-5, atol=tolerance * largest)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "as old torch"])
@pytest.mark.parametrize("dtype", CLOSE)
@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    betas=st.tuples(st.floats(0, 0.95), st.floats(0.5, 0.9999)),
    eps=st.sampled_from([1e-8, 1e-6, 1e-3, 0.1]),
    weight_decay=st.sampled_from([0.0, 1e-5, 1e-4, 0.1]),
    shapes=st.lists(st.lists(st.integers(1, 5), max_size=3).map(tuple), min_size=1, max_size=4),
    size=st.sampled_from([1e-4, 1.0, 30.0]),
    missing=st.sampled_from([0.0, 0.3]),
    clip=st.sampled_from([0.0, 0.5]),
)
def test_steps_are_those_of_fairseq(
    dtype, fused, betas, eps, weight_decay, shapes, size, missing, clip, monkeypatch
):
    if not fused:
        monkeypatch.setattr(adam_steps, "has_fused_kernel", lambda device, dtype: False)
    params = weights(shapes, dtype)
    theirs, ours = pair(params, betas=betas, eps=eps, weight_decay=weight_decay)
    update = Updates(params, lr=0.002, size=size, missing=missing, clip=clip)
    for _ in range(UPDATES):
        update(theirs, ours)
    assert_same(theirs, ours, CLOSE[dtype])
    monkeypatch.undo()


def test_small_weight_decay_is_not_rounded_away():
    """torch multiplies by 1 − lr · wd, in float32 1 − 1.2e-7 where 1 − 1e-7 is meant."""
    params = [torch.nn.Parameter(torch.linspace(1, 2, 50))]
    theirs, ours = pair(params, weight_decay=1e-4, lr=1e-3)
    for optimizer in (theirs, ours):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.zeros_like(p)
        for _ in range(1000):
            optimizer.step()
    first, second = (o.param_groups[0]["params"][0] for o in (theirs, ours))
    assert torch.equal(first, second)
    assert (first < torch.linspace(1, 2, 50)).all()


def test_weights_that_took_as_many_steps_move_in_one_call(monkeypatch):
    calls = []

    def counted(params, *args, fused, **options):
        calls.append((len(params), fused))
        original(params, *args, fused=fused, **options)

    original = adam_steps.adamw
    monkeypatch.setattr(adam_steps, "adamw", counted)
    fused = True if has_fused_kernel("cpu", torch.float32) else None
    params = weights(SHAPES, torch.float32)
    optimizer = AdamSteps(params, **OPTIONS)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert calls == [(5, fused)]
    params[1].grad = None
    optimizer.step()
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()
    assert calls[1:] == [(4, fused), (4, fused), (1, fused)]
    assert [optimizer.state[p]["step"] for p in params] == [3, 2, 3, 3, 3]


def test_newer_torch_has_the_kernel_on_the_cpu():
    newer = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 5)
    assert has_fused_kernel("cpu", torch.float32) or not newer


def test_torch_that_refuses_has_no_kernel(monkeypatch):
    def refusing(params, fused):
        raise RuntimeError("`fused=True` requires all the params to be floating point Tensors")

    monkeypatch.setattr(torch.optim, "AdamW", refusing)
    assert not has_fused_kernel.__wrapped__("cpu", torch.float32)  # past the cache


def test_steps_are_counted_off_the_device():
    """A count on the device would make the host wait for it, in every update."""
    params = weights(SHAPES)
    optimizer = AdamSteps(params, **OPTIONS)
    Updates(params)(optimizer)
    assert {type(state["step"]) for state in optimizer.state.values()} == {int}


@pytest.mark.parametrize("transposed", ["weight", "gradient", "both", "moments"])
def test_strides_may_differ(transposed):
    """torch's kernel for CPUs reads weight, gradient and moments in the order of memory."""

    def turned(tensor, whose):
        return tensor.t().contiguous().t() if transposed in (whose, "both") else tensor

    first = torch.nn.Parameter(torch.arange(12.0, dtype=torch.float64).reshape(3, 4))
    second = torch.nn.Parameter(turned(first.detach().clone(), "weight"))
    optimizers = Adam([first], lr=0.1), AdamSteps([second], lr=0.1)
    for t in range(5):
        grad = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) - t
        first.grad, second.grad = grad, turned(grad, "gradient")
        for optimizer in optimizers:
            optimizer.step()
        state = optimizers[1].state[second]
        state["exp_avg"] = turned(state["exp_avg"], "moments")
    assert torch.allclose(first, second, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("first", [Adam, AdamSteps])
@pytest.mark.parametrize("second", [Adam, AdamSteps])
def test_either_goes_on_from_the_others_checkpoint(first, second, dtype, tmp_path):
    params = weights(SHAPES, dtype)
    whole = Adam(params, lr=0.0, **OPTIONS)
    start = first(copy.deepcopy(params), lr=0.0, **OPTIONS)
    update = Updates(params, missing=0.2)
    for _ in range(UPDATES // 2):
        update(whole, start)
    torch.save(start.state_dict(), tmp_path / "state.pt")
    resumed = second(copy.deepcopy(start.param_groups[0]["params"]), lr=9.0, betas=(0.1, 0.2))
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(UPDATES // 2):
        update(whole, resumed)
    assert_same(whole, resumed, CLOSE[dtype])


@pytest.mark.parametrize("kept", ["torch", "apex"])
def test_goes_on_where_the_steps_are_counted_otherwise(kept):
    """torch counts in a tensor for each weight; apex, in fairseq's newer class, once a group."""
    params = weights(SHAPES)
    whole = Adam(params, lr=0.0, **OPTIONS)
    update = Updates(params)
    for _ in range(30):
        update(whole)
    saved = copy.deepcopy(whole.state_dict())
    for state in saved["state"].values():
        steps = state.pop("step")
        if kept == "torch":
            state["step"] = torch.tensor(float(steps))
    if kept == "apex":
        saved["param_groups"][0]["step"] = steps
    resumed = AdamSteps(copy.deepcopy(params))
    resumed.load_state_dict(copy.deepcopy(saved))
    for _ in range(30):
        update(whole, resumed)
    assert_same(whole, resumed, 1e-12)
    assert "step" not in resumed.param_groups[0]
    assert {type(state["step"]) for state in resumed.state.values()} == {int}


@pytest.mark.parametrize(
    "keys",
    [
        ["exp_avg", "exp_avg_sq"],  # novograd; with --fp16 fairseq lets every optimiser's pass
        ["step", "sum"],
        ["momentum_buffer"],
        ["step", "exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale"],
        ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    ],
)
def test_other_optimisers_states_are_refused(keys):
    (p,) = weights([(3,)])
    optimizer = AdamSteps([p])
    saved = optimizer.state_dict()
    saved["state"] = {0: dict.fromkeys(keys, torch.ones(3))}
    with pytest.raises(AdminError, match="--reset-optimizer") as error:
        optimizer.load_state_dict(saved)
    assert keys[-1] in str(error.value) and len(str(error.value).splitlines()) == 1


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(AdminError, match="sparse"):
        AdamSteps(table.parameters()).step()


def test_closure_gives_the_loss():
    (p,) = weights([(3,)])
    optimizer = AdamSteps([p], lr=0.1)
    before = p.detach().clone()

    def closure():
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == (before**2).sum()
    assert not torch.equal(p, before)


def config(name, **options):
    """The command line's options, as the trainer has them."""
    kind = AdamOptions if name != "adam" else FairseqAdamConfig
    cfg = OmegaConf.structured(FairseqConfig())
    OmegaConf.set_struct(cfg, False)
    cfg.optimizer = OmegaConf.structured(kind(adam_betas="(0.9, 0.98)", weight_decay=0.01))
    OmegaConf.set_struct(cfg.optimizer, False)
    cfg.optimizer.update({"_name": name, "lr": [0.001], "tpu": False, **options})
    cfg.distributed_training.distributed_world_size = 1
    return cfg


def test_command_lines_name_and_options():
    optimizer = build_optimizer(config("adam_fused", adam_eps=1e-6).optimizer, weights(SHAPES))
    assert type(optimizer) is FairseqAdamFused and type(optimizer.optimizer) is AdamSteps
    group = optimizer.optimizer.param_groups[0]
    assert {key: group[key] for key in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 0.001,
        "betas": (0.9, 0.98),
        "eps": 1e-6,
        "weight_decay": 0.01,
    }


def test_has_the_name_that_fairseq_looks_for_in_checkpoints():
    assert FairseqAdamFused.__name__ == FairseqAdam.__name__
    assert FairseqAdamFused is not FairseqAdam


def in_half_precision(name, flat):
    """The float32 weights after 20 updates, in which gradients are missing, as one tensor."""
    cfg = config(name)
    cfg.common.fp16_no_flatten_grads = not flat
    params = weights([(3, 4), (5,)], torch.float16)
    optimizer = FP16Optimizer.build_optimizer(cfg, params)
    assert optimizer.has_flat_params == flat
    generator = torch.Generator().manual_seed(0)
    for t in range(20):
        for i, p in enumerate(params):
            grad = torch.randn(p.shape, generator=generator) * optimizer.scaler.loss_scale
            p.grad = None if i == t % 3 else grad.half()
        optimizer._needs_sync = True  # as after backward()
        optimizer.clip_grad_norm(0.5)
        optimizer.step()
        optimizer.zero_grad()
    kept = optimizer.fp32_params
    return torch.cat([p.detach().flatten() for p in (kept.values() if flat else kept)])


@pytest.mark.parametrize(
    "name, other", [("adam_fused", ("adam", True)), ("radam", ("radam", False))]
)
def test_one_tensor_of_all_weights_as_fp16_makes_it(name, other, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # no GPU: the CPU's index
    found = in_half_precision(name, flat=True)
    assert torch.allclose(found, in_half_precision(*other), rtol=0, atol=1e-6)
    start = torch.cat([p.detach().flatten() for p in weights([(3, 4), (5,)], torch.float16)])
    assert (found - start.float()).abs().max() > 0.001
