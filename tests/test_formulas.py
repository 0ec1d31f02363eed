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
