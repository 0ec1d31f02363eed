"""Constants of schemes that change nothing else of a model, against the authors' code."""

import pytest
import torch

from admin_fairseq.formulas import ADMIN_TORCH
from admin_fairseq.modules.norms import DynamicTanh
from admin_fairseq.modules.residual import ScaledResidual

from ..conftest import held
from . import numbers, subject

ADMIN = numbers("admin-torch")
DSINIT = numbers("dsinit")["matrices"]


@pytest.mark.parametrize("scale", ADMIN_TORCH)
def test_omega_of_admin_torch(scale):
    omegas = {int(sublayers): omega for sublayers, omega in ADMIN["omega"][scale].items()}
    assert {n: ADMIN_TORCH[scale](n) for n in omegas} == pytest.approx(omegas, rel=1e-12)


@pytest.mark.parametrize("depths", subject.DEPTHS)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("scale", ADMIN_TORCH)
def test_omega_in_a_model(build, scale, trained, depths):
    """n is 2N in the encoder and 3M in the decoder, as in the authors' examples."""
    encoder_layers, decoder_layers = depths
    model = build(
        init_type="admin-torch",
        output_change_scale=scale,
        omega_trainable=trained,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
    )
    omegas = {name: omega for name, omega in held(model).items() if name.endswith(".omega")}
    assert len(omegas) == 2 * encoder_layers + 3 * decoder_layers
    for name, omega in omegas.items():
        n = 2 * encoder_layers if name.startswith("encoder.") else 3 * decoder_layers
        torch.testing.assert_close(omega, torch.full_like(omega, ADMIN["omega"][scale][str(n)]))
        assert isinstance(omega, torch.nn.Parameter) == trained


@pytest.mark.parametrize("form", ["constant", "trained"])
@pytest.mark.parametrize("scale", ADMIN_TORCH)
def test_sum_of_admin_torch(scale, form):
    x, branch = subject.summands()
    residual = ScaledResidual(x.size(-1), trainable=form == "trained").double()
    with torch.no_grad():
        residual.omega.fill_(ADMIN_TORCH[scale](subject.SUBLAYERS[0]))
        found = residual(x, branch)
    expected = torch.tensor(ADMIN["sums"][form][scale], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # theirs is a float32 ω


OURS = {
    "qkv_map": ("q_proj", "k_proj", "v_proj"),
    "o_map": ("out_proj",),
    **{f"{letter}_map": (f"{letter}_proj",) for letter in "qkv"},
    "enlarge": ("fc1",),
    "output": ("fc2",),
}
"""The last part of their name → of ours."""


@pytest.mark.parametrize("depths", subject.DEPTHS)
def test_bounds_of_dsinit(build, depths):
    """Theirs are γ l^(-1/4), ours γ/√l as in the paper.

    γ is the same, but for self-attention's queries, keys and values: as they draw these as one
    matrix, theirs is 1/√2 of ours.
    """
    theirs = DSINIT["-".join(map(str, depths))]
    sizes = {f"{s}_{key}": n for s in ("encoder", "decoder") for key, n in subject.DRAWN.items()}
    layers = dict(zip(("encoder_layers", "decoder_layers"), depths))
    ours = held(build(init_type="dsinit", **layers, **sizes))
    assert len(theirs) == 4 + 8
    for name, matrix in theirs.items():
        stack, _, branch, *_, last = name.split("/")
        attention = {"self_attention": "self_attn.", "cross_attention": "encoder_attn."}
        for layer, largest in enumerate(matrix["largest"], 1):
            expected = largest * layer**-0.25 * (2**0.5 if last == "qkv_map" else 1)
            for part in OURS[last]:
                place = f"{stack}.layers.{layer - 1}.{attention.get(branch, '')}{part}"
                found = float(ours[f"{place}.weight"].abs().max())
                assert found == pytest.approx(expected, rel=6e-3), place
                assert not ours[f"{place}.bias"].any(), place


LNS = numbers("lns")["sums"]


@pytest.mark.parametrize("layer", LNS)
def test_factor_of_layernorm_scaling(build, layer):
    model = build(init_type="lns", encoder_layers=18, decoder_layers=18)
    x = subject.summands()[0]
    expected = torch.tensor(LNS[layer], dtype=torch.float64).view_as(x)
    for stack in (model.encoder, model.decoder):
        norms = stack.layers[int(layer) - 1]
        for norm in (norms.self_attn_layer_norm, norms.final_layer_norm):
            scaled = (1 + norm.scale.double()) ** 2 * x
            torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=1e-7)  # ours is float32


DYT = numbers("dyt")["outputs"]


@pytest.mark.parametrize("start", DYT)
def test_output_of_dyt(start):
    norm = DynamicTanh(8, float(start)).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(norm, name).copy_(subject.weights(f"layer_norm.{name}", (8,)))
        found = norm(subject.summands()[0])
    expected = torch.tensor(DYT[start], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


COMPLETEP = numbers("completep")["sums"]


@pytest.mark.parametrize("exponent", COMPLETEP)
@pytest.mark.parametrize("multiplier", COMPLETEP["1.0"])
def test_factor_of_completep(build, exponent, multiplier):
    options = {"completep_exponent": float(exponent), "completep_base_layers": 2}
    layers = int(2 * float(multiplier))
    model = build(init_type="completep", encoder_layers=layers, decoder_layers=layers, **options)
    x = subject.summands()[0]
    expected = torch.tensor(COMPLETEP[exponent][multiplier], dtype=torch.float64)
    alphas = [value for name, value in held(model).items() if name.endswith(".alpha")]
    assert len(alphas) == 5 * layers
    for alpha in alphas:
        scaled = (1 + alpha.double()) ** 2 * x
        torch.testing.assert_close(scaled, expected, rtol=1e-6, atol=1e-7)
