"""The losses against their closed forms, in double precision, and their gradients against finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from gan_lib import LOSSES

MODERATE = np.linspace(-8, 8, 33)
EXTREME = np.array([-1e4, -100.0, 100.0, 1e4])


def log_sigmoid(a):
    return -np.logaddexp(0, -a)


def log_one_minus_sigmoid(a):
    return -np.logaddexp(0, a)


CLOSED_FORMS = {  # discriminator(real, fake), generator(fake)
    "log": (lambda r, f: -np.mean(log_sigmoid(r) + log_one_minus_sigmoid(f)), lambda f: -np.mean(log_sigmoid(f))),
    "minimax": (lambda r, f: -np.mean(log_sigmoid(r) + log_one_minus_sigmoid(f)),
                lambda f: np.mean(log_one_minus_sigmoid(f))),
}
CLOSED_FORMS["logistic"] = CLOSED_FORMS["log"]

every_loss = pytest.mark.parametrize("name", LOSSES)
from_logits = pytest.mark.parametrize("name", [name for name in LOSSES if name != "log"])


def column(values):
    return tf.constant(np.reshape(values, (-1, 1)), tf.float32)


def value_and_gradients(function, *logits):
    logits = [column(values) for values in logits]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = function(*logits)
    return float(loss), [g.numpy().ravel() for g in tape.gradient(loss, logits)]


def finite_differences(function, values, h=1e-5):
    return np.array([(function(values + h * e) - function(values - h * e)) / (2 * h) for e in np.eye(len(values))])


def test_every_loss_has_a_closed_form_here():
    assert set(CLOSED_FORMS) == set(LOSSES)


@every_loss
def test_closed_form_at_moderate_logits(name):
    discriminator, generator = CLOSED_FORMS[name]
    real, fake = MODERATE, MODERATE[::-1] / 2
    assert np.isclose(LOSSES[name].discriminator(column(real), column(fake)), discriminator(real, fake), rtol=1e-4)
    assert np.isclose(LOSSES[name].generator(column(fake)), generator(fake), rtol=1e-4)


@from_logits
@pytest.mark.parametrize("a", EXTREME)
def test_closed_form_at_extreme_logits(name, a):
    discriminator, generator = CLOSED_FORMS[name]
    a = np.array([a])
    value, gradients = value_and_gradients(LOSSES[name].discriminator, a, -a)
    assert np.isclose(value, discriminator(a, -a)) and np.isfinite(gradients).all()
    value, gradients = value_and_gradients(LOSSES[name].generator, a)
    assert np.isclose(value, generator(a), atol=1e-30) and np.isfinite(gradients).all()


@every_loss
def test_gradients_agree_with_finite_differences(name):
    discriminator, generator = CLOSED_FORMS[name]
    real, fake = MODERATE, MODERATE[::-1] / 2
    _, (by_real, by_fake) = value_and_gradients(LOSSES[name].discriminator, real, fake)
    assert np.allclose(by_real, finite_differences(lambda r: discriminator(r, fake), real), atol=1e-5)
    assert np.allclose(by_fake, finite_differences(lambda f: discriminator(real, f), fake), atol=1e-5)
    _, (by_fake,) = value_and_gradients(LOSSES[name].generator, fake)
    assert np.allclose(by_fake, finite_differences(generator, fake), atol=1e-5)


@from_logits
@pytest.mark.parametrize("a", EXTREME)
def test_gradients_at_extreme_logits_agree_with_finite_differences(name, a):
    discriminator, generator = CLOSED_FORMS[name]
    a = np.array([a])
    _, (by_fake,) = value_and_gradients(LOSSES[name].generator, a)
    assert np.allclose(by_fake, finite_differences(generator, a, h=0.01), atol=1e-5)
    _, (by_real, by_fake) = value_and_gradients(LOSSES[name].discriminator, a, a)
    assert np.allclose(by_real, finite_differences(lambda r: discriminator(r, a), a, h=0.01), atol=1e-5)
    assert np.allclose(by_fake, finite_differences(lambda f: discriminator(a, f), a, h=0.01), atol=1e-5)


def test_the_two_forms_of_the_article_are_one_function_where_both_are_finite():
    for logits in np.linspace(-15, 15, 31):
        real, fake = column([logits]), column([-logits])
        assert np.isclose(LOSSES["log"].discriminator(real, fake), LOSSES["logistic"].discriminator(real, fake), 1e-2)
        assert np.isclose(LOSSES["log"].generator(real), LOSSES["logistic"].generator(real), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("part", "before", "past"), [("discriminator", 16.5, 16.8), ("generator", -87.0, -89.5)])
def test_the_cliff_of_the_loss_on_probabilities(part, before, past):
    def loss(fake):
        return LOSSES["log"].discriminator(tf.zeros([1, 1]), fake) if part == "discriminator" else (
            LOSSES["log"].generator(fake))

    value, (gradient,) = value_and_gradients(loss, [before])
    assert np.isfinite(value) and np.isfinite(gradient)
    value, (gradient,) = value_and_gradients(loss, [past])
    assert value == np.inf and np.isnan(gradient)


def test_values_where_the_discriminator_cannot_tell():
    cannot_tell = tf.zeros([7, 1])
    for loss in LOSSES.values():
        assert np.isclose(loss.discriminator(cannot_tell, cannot_tell), 2 * np.log(2))
    assert np.isclose(LOSSES["logistic"].generator(cannot_tell), np.log(2))
    assert np.isclose(LOSSES["minimax"].generator(cannot_tell), -np.log(2))


@pytest.mark.parametrize("a", [-10.0, -5.0, 0.0, 3.0])
def test_non_saturating_and_minimax_gradients_have_the_ratio_of_the_odds(a):
    _, (non_saturating,) = value_and_gradients(LOSSES["logistic"].generator, [a])
    _, (minimax,) = value_and_gradients(LOSSES["minimax"].generator, [a])
    assert np.isclose(non_saturating / minimax, np.exp(-a), rtol=1e-4)
    assert np.isclose(minimax, -1 / (1 + np.exp(-a)), rtol=1e-4)
