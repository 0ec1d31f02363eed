import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.recorder import (
    Recorder,
    Site,
    _moments,
    all_layers_kept,
    pooled_omegas,
    residual_sites,
    set_omega,
    variances,
)
from admin_fairseq.modules.residual import ScaledResidual

from ..conftest import HALF


def profiled(model, batches, seed=3):
    recorder = Recorder(residual_sites(model))
    model.train()
    for batch in batches:
        torch.manual_seed(seed)
        with torch.no_grad(), recorder.batch():
            model(**batch, features_only=True)
    return recorder


@pytest.fixture
def admin(build):
    return build("admin_transformer_tiny", encoder_layers=3, decoder_layers=2)


def test_sites_are_in_order_of_execution_encoder_first(admin):
    names = [str(site) for site in residual_sites(admin)]
    assert names[:3] == [
        "encoder layer 0 self_attn",
        "encoder layer 0 ffn",
        "encoder layer 1 self_attn",
    ]
    assert names[6:9] == [f"decoder layer 0 {s}" for s in ("self_attn", "encoder_attn", "ffn")]
    assert len(names) == 2 * 3 + 3 * 2


def test_file_holds_what_a_measurement_from_scratch_finds(admin, batch):
    """With ω in place, Var(ω x) + Var(f) of every sub-layer is the next sub-layer's ω²."""
    recorder = profiled(admin, [batch])
    sites = list(recorder.sites)
    omegas = pooled_omegas(sites, recorder.variances())
    for residual, omega in zip(recorder.sites.values(), omegas):
        set_omega(residual, omega)
    found = []
    handles = [
        residual.register_forward_pre_hook(
            lambda module, inputs: found.append(
                (module.omega * inputs[0]).double().var(unbiased=False)
                + inputs[1].double().var(unbiased=False)
            )
        )
        for residual in recorder.sites.values()
    ]
    torch.manual_seed(3)
    with torch.no_grad():
        admin(**batch)
    for handle in handles:
        handle.remove()
    for i, site in enumerate(sites[1:], start=1):
        if site.stack == sites[i - 1].stack:
            assert found[i - 1].sqrt().item() == pytest.approx(omegas[i], rel=1e-5), site
        else:
            assert omegas[i] == 1.0


def test_batches_pool_to_the_moments_of_their_union(admin, batch, other_batch):
    both = profiled(admin, [batch, other_batch])
    first, second = profiled(admin, [batch]), profiled(admin, [other_batch])
    assert torch.allclose(both.moments, first.moments + second.moments, rtol=1e-12)
    assert not torch.allclose(first.variances(), second.variances(), rtol=1e-3)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40), st.data())
@settings(deadline=None)
def test_moments_of_parts_add_up(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    whole = torch.tensor(values, dtype=torch.float64)
    added = _moments(whole[:cut]) + _moments(whole[cut:])
    assert variances(added).item() == pytest.approx(whole.var(unbiased=False).item(), abs=1e-8)


def test_recording_leaves_no_hook_and_no_trace_in_the_output(admin, batch):
    recorder = profiled(admin, [batch])
    for residual in recorder.sites.values():
        assert not residual._forward_pre_hooks
        set_omega(residual, 1.0)
    torch.manual_seed(3)
    before = admin(**batch)[0]
    with torch.no_grad(), recorder.batch():
        pass
    torch.manual_seed(3)
    assert torch.equal(before, admin(**batch)[0])


def test_layerdrop_is_suspended_and_restored(build, batch):
    model = build(
        "admin_transformer_tiny", encoder_layers=3, encoder_layerdrop=0.9, decoder_layerdrop=0.9
    )
    with all_layers_kept(model):
        counts = profiled(model, [batch]).moments[:, :, 0]
    assert (counts > 0).all()
    assert model.encoder.layers.p == 0.9 and model.decoder.layers.p == 0.9


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_omega_is_within_one_percent(dtype, build, batch):
    def omegas(dtype):
        torch.manual_seed(1)
        model = build("admin_transformer_tiny", encoder_layers=2, decoder_layers=2, dropout=0.0)
        recorder = profiled(model.to(dtype), [batch])
        return torch.tensor(pooled_omegas(list(recorder.sites), recorder.variances()))

    assert torch.allclose(omegas(dtype), omegas(torch.float32), rtol=0.01)


def test_moments_do_not_overflow_in_half_precision():
    large = torch.full((400, 30), 6e4, dtype=torch.float16)
    large[::2] *= -1
    assert variances(_moments(large)).item() == pytest.approx(6e4**2, rel=1e-3)


def test_omega_is_within_the_models_precision():
    residual = ScaledResidual(2).half()
    set_omega(residual, 65504.0)
    assert residual.omega.tolist() == [65504.0] * 2
    with pytest.raises(AdminError, match="float16"):
        set_omega(residual, 1e5)


def test_an_omega_beyond_the_models_precision_is_told_after_the_pass():
    sites = [Site("encoder", layer, "ffn") for layer in range(3)]
    recorder = Recorder({site: ScaledResidual(4).half() for site in sites})
    large = torch.tensor([6e4, -6e4, 6e4, -6e4], dtype=torch.float16)
    refused = pytest.raises(AdminError, match=r"ω of 8.485e\+04 is too large for torch.float16")
    with refused, torch.no_grad(), recorder.batch():
        for residual in recorder.sites.values():
            residual(large, large)
