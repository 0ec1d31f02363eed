import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq import formulas

omegas = st.floats(0.01, 100)
variances = st.floats(0, 100)


def four_digits(value):
    return pytest.approx(value, abs=5e-5)


def test_tfixup_at_6l_6l():
    assert formulas.tfixup_encoder(6, 6) == four_digits(0.4281)
    assert formulas.tfixup_decoder(6, 6) == four_digits(0.3689)
    assert formulas.tfixup_encoder_embedding(6, 6) == four_digits(0.3689)


def test_tfixup_at_12l_3l():
    # 0.67 / 12^¼ = 0.67 / 1.86121;  1 / 27^¼ = 1 / 2.27951;  1 / 108^¼ = 1 / 3.22371
    assert formulas.tfixup_encoder(12, 3) == four_digits(0.3600)
    assert formulas.tfixup_decoder(12, 3) == four_digits(0.4387)
    assert formulas.tfixup_encoder_embedding(12, 3) == four_digits(0.3102)


@pytest.mark.parametrize(
    ("depths", "encoder", "decoder"),
    [((6, 6), 0.6054, 0.5217), ((12, 3), 0.5091, 0.6204)],
)
def test_tfixup_value_weights_are_larger_by_the_square_root_of_two(depths, encoder, decoder):
    assert formulas.tfixup_encoder_value(*depths) == four_digits(encoder)
    assert formulas.tfixup_decoder_value(*depths) == four_digits(decoder)


@given(n=st.integers(1, 200), m=st.integers(1, 200), other=st.integers(1, 200))
def test_tfixup_takes_each_stack_by_its_own_depth(n, m, other):
    for formula in (
        formulas.tfixup_encoder,
        formulas.tfixup_encoder_value,
        formulas.tfixup_encoder_embedding,
    ):
        assert formula(n, m) == formula(n, other)
        assert formula(n + 1, m) < formula(n, m)
    for formula in (formulas.tfixup_decoder, formulas.tfixup_decoder_value):
        assert formula(n, m) == formula(other, m)
        assert formula(n, m + 1) < formula(n, m)


def test_next_omega_by_hand():
    assert formulas.admin_next_omega(1.0, 1.0, 3.0) == 2.0
    assert formulas.admin_next_omega(2.0, 4.0, 9.0) == 5.0


@given(omega=omegas, input_variance=variances, branch_variance=variances, more=st.floats(0, 10))
def test_next_omega_grows_with_all_that_it_is_made_of(omega, input_variance, branch_variance, more):
    next_omega = formulas.admin_next_omega
    here = next_omega(omega, input_variance, branch_variance)
    assert next_omega(omega + more, input_variance, branch_variance) >= here
    assert next_omega(omega, input_variance + more, branch_variance) >= here
    assert next_omega(omega, input_variance, branch_variance + more) >= here


@given(omega=omegas, branch_variance=variances)
def test_next_omega_never_falls_on_inputs_of_variance_one(omega, branch_variance):
    # one rounding in the square, one in the root
    assert formulas.admin_next_omega(omega, 1.0, branch_variance) >= omega * (1 - 1e-15)


@given(branches=st.lists(variances, max_size=50))
def test_recursion_is_the_papers_sum_on_inputs_of_variance_one(branches):
    omega = 1.0
    for branch_variance in branches:
        omega = formulas.admin_next_omega(omega, 1.0, branch_variance)
    assert omega == pytest.approx(math.sqrt(1 + sum(branches)), rel=1e-12)


def test_deepnorm_at_6l_6l():
    assert formulas.deepnorm_encoder_alpha(6, 6) == four_digits(1.4179)
    assert formulas.deepnorm_encoder_beta(6, 6) == four_digits(0.4970)
    assert formulas.deepnorm_decoder_alpha(6, 6) == four_digits(2.0598)
    assert formulas.deepnorm_decoder_beta(6, 6) == four_digits(0.3433)


def test_deepnorm_at_12l_3l():
    # 12⁴ · 3 = 62208, whose 16th root is 1.99351;  9^¼ = 1.73205;  36^¼ = 2.44949
    assert formulas.deepnorm_encoder_alpha(12, 3) == four_digits(0.81 * 1.99351)
    assert formulas.deepnorm_encoder_beta(12, 3) == four_digits(0.87 / 1.99351)
    assert formulas.deepnorm_decoder_alpha(12, 3) == four_digits(1.73205)
    assert formulas.deepnorm_decoder_beta(12, 3) == four_digits(1 / 2.44949)


def test_a_decoder_alone_has_two_sublayers_a_layer():
    # (0, 6): n = 12
    assert formulas.tfixup_decoder(0, 6) == four_digits(1 / 36**0.25)
    assert formulas.tfixup_decoder_value(0, 6) == four_digits(2**0.5 / 36**0.25)
    assert formulas.deepnorm_decoder_alpha(0, 6) == four_digits(1.8612)
    assert formulas.deepnorm_decoder_beta(0, 6) == four_digits(0.3799)
    assert formulas.subln_decoder_gain(0, 6) == four_digits(math.log(12) ** 0.5)
    assert formulas.fixup_attention(0, 6) == four_digits(12 ** (-1 / 6))
    assert formulas.fixup_ffn(0, 6) == four_digits(12**-0.5)


def test_an_encoder_alone_has_two_sublayers_a_layer():
    # (6, 0): n = 12;  (12, 0): n = 24, 24^¼ = 2.21336, 96^¼ = 3.13017, ln 24 = 3.17805
    assert formulas.deepnorm_encoder_alpha(6, 0) == four_digits(1.8612)
    assert formulas.deepnorm_encoder_beta(6, 0) == four_digits(0.3799)
    assert formulas.deepnorm_encoder_alpha(12, 0) == four_digits(2.21336)
    assert formulas.deepnorm_encoder_beta(12, 0) == four_digits(1 / 3.13017)
    assert formulas.subln_encoder_gain(6, 0) == four_digits(2.48491**0.5)
    assert formulas.subln_encoder_gain(12, 0) == four_digits(3.17805**0.5)
    assert formulas.tfixup_encoder(6, 0) == four_digits(0.4281)
    assert formulas.tfixup_encoder_value(6, 0) == four_digits(0.6054)
    assert formulas.tfixup_encoder_embedding(6, 0) == four_digits(0.3689)
    assert formulas.fixup_attention(6, 0) == four_digits(12 ** (-1 / 6))
    assert formulas.fixup_ffn(6, 0) == four_digits(12**-0.5)
    assert formulas.b2t_encoder(6, 0) == four_digits(0.4082)
    assert formulas.keel_encoder_alpha(6, 0) == 12


def test_tfixups_encoder_constant_comes_of_the_same_sum_as_the_decoders():
    """v²w² + v²x² + w²x² of 2N branches sum to 1, with v = w and x = (9N)^-¼ (any N)."""
    for n in (1, 6, 40):
        v, x = formulas.tfixup_encoder(n, n), formulas.tfixup_encoder_embedding(n, n)
        assert 2 * n * (v**4 + 2 * v**2 * x**2) == pytest.approx(1, rel=0.005)  # 0.67 is rounded


@pytest.mark.parametrize(
    ("scale", "n12", "n18", "n9"),
    [("O(logn)", 2.0170, 2.3351, 1.8284), ("O(1)", 3.4641, 4.2426, 3), ("O(n)", 1, 1, 1)],
)
def test_admin_torch(scale, n12, n18, n9):
    found = [formulas.ADMIN_TORCH[scale](n) for n in (12, 18, 9)]
    assert found == [four_digits(n12), four_digits(n18), four_digits(n9)]


@given(n=st.integers(1, 10_000))
def test_admin_torch_leans_on_the_input_more_the_less_the_output_may_change(n):
    scales = [formulas.ADMIN_TORCH[scale](n) for scale in ("O(n)", "O(logn)", "O(1)")]
    # one sub-layer has O(1) = O(n)
    assert scales[0] == 1 and scales[2] == math.sqrt(n)
    assert n == 1 or scales[0] * 0.85 < scales[1] < scales[2]


def test_subln():
    # ln 18 = 2.89037, ln 12 = 2.48491, ln 9 = 2.19722, ln 24 = 3.17805
    assert formulas.subln_encoder_gain(6, 6) == four_digits((2.89037 * 2.48491 / 3) ** 0.5)
    assert formulas.subln_encoder_gain(12, 3) == four_digits((2.19722 * 3.17805 / 3) ** 0.5)
    assert formulas.subln_decoder_gain(6, 6) == four_digits(2.89037**0.5)
    assert formulas.subln_decoder_gain(12, 3) == four_digits(2.19722**0.5)


def test_fixup():
    # 30^⅙ = 1.76273;  33^⅙ = 1.79094
    assert formulas.fixup_attention(6, 6) == four_digits(0.5673)
    assert formulas.fixup_attention(12, 3) == four_digits(0.5584)
    assert formulas.fixup_encoder_attention(6, 6) == four_digits(0.6609)
    assert formulas.fixup_encoder_attention(12, 3) == four_digits(0.6609)
    assert formulas.fixup_ffn(6, 6) == four_digits(30**-0.5)
    assert formulas.fixup_ffn(12, 3) == four_digits(33**-0.5)


def test_b2t():
    assert formulas.b2t_encoder(6, 18) == formulas.b2t_decoder(18, 6) == four_digits(0.4082)
    assert formulas.b2t_encoder(18, 6) == formulas.b2t_decoder(6, 18) == four_digits(0.2357)
    assert formulas.b2t_encoder(12, 3) == four_digits(0.2887)
    assert formulas.b2t_decoder(12, 3) == four_digits(0.5774)


def test_dsinit():
    # sqrt(6 / 192) = 0.176777
    assert formulas.dsinit_bound(128, 64, 1) == four_digits(0.1768)
    assert formulas.dsinit_bound(64, 128, 4) == four_digits(0.0884)


@given(layers=st.integers(1, 500))
def test_dsinit_leaves_deep_gradients_alive(layers):
    """Π (1 + v_l), v_l the square of layer l's shrinking, grows with L as L + 1."""
    shrinking = [
        formulas.dsinit_bound(1, 1, layer) / formulas.dsinit_bound(1, 1, 1)
        for layer in range(1, layers + 1)
    ]
    assert math.prod(1 + factor**2 for factor in shrinking) == pytest.approx(layers + 1)


def test_lipschitz():
    assert [formulas.lipschitz_bound(128, 64, layer) for layer in (1, 9)] == [1 / 8] * 2
    assert formulas.lipschitz_embedding_bound(24, 64, 0) == four_digits(0.1508)


@given(dim=st.integers(1, 4096), vocabulary=st.integers(1, 50_000))
def test_lipschitz_bounds_are_xaviers_over_the_root_of_three(dim, vocabulary):
    root = math.sqrt(3)
    assert formulas.lipschitz_bound(dim, dim, 1) == pytest.approx(math.sqrt(6 / (2 * dim)) / root)
    xavier = math.sqrt(6 / (dim + vocabulary))
    assert formulas.lipschitz_embedding_bound(vocabulary, dim, 0) == pytest.approx(xavier / root)


@given(rows=st.integers(1, 4096), columns=st.integers(1, 4096))
def test_a_lipschitz_map_lengthens_nothing_on_average(rows, columns):
    """Each output has variance bound²/3 · fan_in · E[x²] = E[x²]/3."""
    bound = formulas.lipschitz_bound(rows, columns, 1)
    assert bound**2 / 3 * columns == pytest.approx(1 / 3)
