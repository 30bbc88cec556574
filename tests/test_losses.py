"""The losses against their closed forms, in double precision, and their gradients against finite differences."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import state, tiny_gan, trained

from gan_lib import GAN, LOSSES, Loss, gradient_penalty, sample_noise, squared_gradient

MODERATE = np.linspace(-8, 8, 33) + 0.01  # a hinge has no derivative at exactly -1 and 1
EXTREME = np.array([-1e4, -100.0, 100.0, 1e4])


def log_sigmoid(a):
    return -np.logaddexp(0, -a)


def log_one_minus_sigmoid(a):
    return -np.logaddexp(0, a)


CLOSED_FORMS = {  # discriminator(real, fake), generator(fake)
    "log": (lambda r, f: -np.mean(log_sigmoid(r) + log_one_minus_sigmoid(f)), lambda f: -np.mean(log_sigmoid(f))),
    "minimax": (lambda r, f: -np.mean(log_sigmoid(r) + log_one_minus_sigmoid(f)),
                lambda f: np.mean(log_one_minus_sigmoid(f))),
    "least squares": (lambda r, f: np.mean((r - 1)**2) / 2 + np.mean(f**2) / 2, lambda f: np.mean((f - 1)**2) / 2),
    "hinge": (lambda r, f: np.mean(np.maximum(0, 1 - r)) + np.mean(np.maximum(0, 1 + f)), lambda f: -np.mean(f)),
    "wasserstein": (lambda r, f: np.mean(f) - np.mean(r), lambda f: -np.mean(f)),
    "relativistic": (lambda r, f: np.mean(np.logaddexp(0, f - r)), lambda r, f: np.mean(np.logaddexp(0, r - f))),
}
CLOSED_FORMS["logistic"] = CLOSED_FORMS["log"]


def generators(name, real):
    """G's part of a loss, and its closed form, as functions of what D says of generated data alone."""
    loss, closed_form = LOSSES[name].generator, CLOSED_FORMS[name][1]
    if LOSSES[name].relativistic:
        return lambda fake: loss(column(real), fake), lambda fake: closed_form(real, fake)
    return loss, closed_form

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
    discriminator, _ = CLOSED_FORMS[name]
    real, fake = MODERATE, MODERATE[::-1] / 2
    assert np.isclose(LOSSES[name].discriminator(column(real), column(fake)), discriminator(real, fake), rtol=1e-4)
    loss, closed_form = generators(name, real)
    assert np.isclose(loss(column(fake)), closed_form(fake), rtol=1e-4)


@from_logits
@pytest.mark.parametrize("a", EXTREME)
def test_closed_form_at_extreme_logits(name, a):
    discriminator, _ = CLOSED_FORMS[name]
    a = np.array([a])
    value, gradients = value_and_gradients(LOSSES[name].discriminator, a, -a)
    assert np.isclose(value, discriminator(a, -a)) and np.isfinite(gradients).all()
    loss, closed_form = generators(name, -a)
    value, gradients = value_and_gradients(loss, a)
    assert np.isclose(value, closed_form(a), atol=1e-30) and np.isfinite(gradients).all()


@every_loss
def test_gradients_agree_with_finite_differences(name):
    discriminator, _ = CLOSED_FORMS[name]
    real, fake = MODERATE, MODERATE[::-1] / 2
    _, (by_real, by_fake) = value_and_gradients(LOSSES[name].discriminator, real, fake)
    assert np.allclose(by_real, finite_differences(lambda r: discriminator(r, fake), real), atol=1e-5)
    assert np.allclose(by_fake, finite_differences(lambda f: discriminator(real, f), fake), atol=1e-5)
    loss, closed_form = generators(name, real)
    _, (by_fake,) = value_and_gradients(loss, fake)
    assert np.allclose(by_fake, finite_differences(closed_form, fake), atol=1e-5)


@from_logits
@pytest.mark.parametrize("a", EXTREME)
def test_gradients_at_extreme_logits_agree_with_finite_differences(name, a):
    discriminator, _ = CLOSED_FORMS[name]
    a = np.array([a])
    loss, closed_form = generators(name, -a)
    _, (by_fake,) = value_and_gradients(loss, a)
    assert np.allclose(by_fake, finite_differences(closed_form, a, h=0.01), atol=1e-5)
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
    for name in "log", "logistic", "minimax":
        assert np.isclose(LOSSES[name].discriminator(cannot_tell, cannot_tell), 2 * np.log(2))
    assert np.isclose(LOSSES["logistic"].generator(cannot_tell), np.log(2))
    assert np.isclose(LOSSES["minimax"].generator(cannot_tell), -np.log(2))


@pytest.mark.parametrize("a", [-10.0, -5.0, 0.0, 3.0])
def test_non_saturating_and_minimax_gradients_have_the_ratio_of_the_odds(a):
    _, (non_saturating,) = value_and_gradients(LOSSES["logistic"].generator, [a])
    _, (minimax,) = value_and_gradients(LOSSES["minimax"].generator, [a])
    assert np.isclose(non_saturating / minimax, np.exp(-a), rtol=1e-4)
    assert np.isclose(minimax, -1 / (1 + np.exp(-a)), rtol=1e-4)


TF_GAN = {  # D's and G's loss for these outputs, as the tests of TF-GAN have them
    "least squares": (41.73375, 17.69625), "wasserstein": (0.225, -3.125), "hinge": (6.75, -3.125),
    "logistic": (None, 1.38582),  # its D smooths labels
}


@pytest.mark.parametrize("name", TF_GAN)
def test_the_values_that_tf_gans_own_tests_expect(name):
    real, fake = column([-5.0, 1.4, 12.5, 2.7]), column([10.0, 4.4, -5.5, 3.6])
    of_d, of_g = TF_GAN[name]
    assert of_d is None or np.isclose(LOSSES[name].discriminator(real, fake), of_d, rtol=1e-5)
    assert np.isclose(LOSSES[name].generator(fake), of_g, rtol=1e-5)


def test_the_relativistic_loss_looks_at_differences_alone():
    real, fake = column(MODERATE), column(MODERATE[::-1])
    loss = LOSSES["relativistic"]
    assert np.isclose(loss.discriminator(real, fake), loss.discriminator(real + 7, fake + 7))
    assert np.isclose(loss.discriminator(real, fake), loss.generator(fake, real))
    assert np.isclose(loss.generator(real, real), np.log(2))


NOTHING = Loss("nothing", lambda real, fake: 0.0 * tf.reduce_sum(real), lambda fake: -tf.reduce_mean(fake))


def line(w):
    """The discriminator a(x) = w . x in the plane, and a generator."""
    discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    discriminator.set_weights([np.reshape(w, (2, 1))])
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), discriminator


@pytest.mark.parametrize(("w", "weight", "penalty"), [((3, 4), 10, 160), ((3, 4), 0.1, 1.6), ((0.6, 0.8), 10, 0),
                                                      ((0, 0), 1, 1)])
def test_the_gradient_penalty_of_a_line_by_hand(w, weight, penalty):
    gan = GAN(*line(w))
    gan.compile(dataclasses.replace(NOTHING, penalty=gradient_penalty(weight)),
                discriminator_optimizer=keras.optimizers.SGD(0.01))
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    loss, *_ = gan.discriminator_step(x, sample_noise(8, 3))
    assert np.isclose(loss, penalty, atol=1e-4)
    # The gradient of weight * (|w| - 1)^2 is weight * 2 (|w| - 1) w / |w|.
    length = np.hypot(*w)
    expected = np.array(w) - (0.01 * weight * 2 * (length - 1) * np.array(w) / length if length else 0)
    assert np.allclose(gan.discriminator.get_weights()[0].ravel(), expected, atol=1e-4)


@pytest.mark.parametrize(("r1", "r2"), [(0.3, 0.0), (0.0, 2.0), (1.0, 0.5)])
def test_r1_and_r2_of_a_line_have_the_strength_of_the_paper(r1, r2):
    gan = GAN(*line((3, 4)))
    gan.compile(NOTHING, r1=r1, r2=r2, discriminator_optimizer=keras.optimizers.SGD(0.01))
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    loss, *_ = gan.discriminator_step(x, sample_noise(8, 3))
    assert np.isclose(loss, (r1 + r2) / 2 * 25)
    # The gradient of gamma / 2 * |w|^2 is gamma * w.
    expected = np.array([3, 4]) * (1 - 0.01 * (r1 + r2))
    assert np.allclose(gan.discriminator.get_weights()[0].ravel(), expected, atol=1e-5)


def square():
    """The discriminator a(x) = x^2, whose slope 2x tells where a penalty looked, and a generator that draws 1."""
    inputs = keras.Input((1,))
    scale = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    one = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones")
    return keras.Sequential([keras.Input((1,)), one]), keras.Model(inputs, scale(inputs * inputs))


THREE, ZERO = np.full((4, 1), 3.0, np.float32), np.zeros((4, 1), np.float32)


@pytest.mark.parametrize("mix", [0.25, 0.5, 1.0])
def test_the_gradient_penalty_looks_between_real_and_generated(mix):
    gan = GAN(*square())
    gan.compile(dataclasses.replace(NOTHING, penalty=gradient_penalty(1.0)))
    value, *_ = gan.discriminator_step(THREE, ZERO, mix=mix)
    assert np.isclose(value, (2 * (1 + mix * 2) - 1) ** 2, atol=1e-4)


def test_r1_looks_at_real_data_and_r2_at_generated_ones():
    for settings, expected in ({"r1": 1.0}, 6**2 / 2), ({"r2": 1.0}, 2**2 / 2):
        gan = GAN(*square())
        gan.compile(NOTHING, **settings)
        assert np.isclose(gan.discriminator_step(THREE, ZERO)[0], expected)


@pytest.mark.parametrize("name", ["logistic", "hinge", "relativistic"])
def test_r1_written_in_a_notebook_is_that_of_compile(name, images):
    mine = dataclasses.replace(LOSSES[name], name="mine", penalty=lambda a, x, fake, between: (
        0.3 / 2 * tf.reduce_mean(squared_gradient(a, x))))
    ours, theirs = tiny_gan(loss=mine), tiny_gan(loss=name, r1=0.3)
    for gan in ours, theirs:
        trained(gan, images, 20)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(state(ours), state(theirs)))


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 5, 2)])
def test_squared_gradients_agree_with_finite_differences(shape):
    rng = np.random.default_rng(1)
    x, w = tf.constant(rng.normal(size=shape), tf.float32), rng.normal(size=shape[1:]).astype(np.float32)

    def a(x):
        return tf.math.sin(tf.reduce_sum(tf.reshape(x * w, [len(x), -1]), axis=1, keepdims=True))

    slope = (a(x + 1e-3 * w) - a(x - 1e-3 * w)) / 2e-3 / np.sum(w**2)  # a changes along w alone
    assert np.allclose(squared_gradient(a, x), tf.squeeze(slope, 1) ** 2 * np.sum(w**2), rtol=1e-2, atol=1e-3)


@every_loss
def test_every_loss_trains_and_the_same_seed_gives_the_same_weights(name, images):
    def trained_state(seed):
        gan = tiny_gan(seed, loss=name, discriminator_steps=2, r1=0.1)
        reports = trained(gan, images, 10, epochs=2)
        assert np.isfinite([reports["d_loss"], reports["g_loss"]]).all()
        return state(gan)

    one, again, other = trained_state(1), trained_state(1), trained_state(2)
    assert all(np.array_equal(a, b) for a, b in zip(one, again))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other))


def test_a_loss_can_be_changed_between_slices_and_is_compiled_once(images):
    gan = tiny_gan()
    for name in ["hinge", "logistic", "hinge", "logistic"]:
        gan.compile(name)
        trained(gan, images, 2)
    assert len(gan._pair.loops) == 2
    with pytest.raises(ValueError, match="There is no loss 'hindge'. Expected one of 'log'"):
        gan.compile("hindge")
    for gamma in 0.1, 0.3, 1.0:
        gan.compile(r1=gamma)
        trained(gan, images, 2)
    assert len(gan._pair.loops) == 3


def test_a_loss_of_ones_own_may_have_its_formulas_in_a_list_and_compute_in_double_precision(images):
    def in_double(fake_logits):
        return tf.reduce_mean(tf.nn.softplus(-tf.cast(fake_logits, tf.float64)))

    gan, plain = tiny_gan(jit_compile=False), tiny_gan(jit_compile=False)
    gan.compile(dataclasses.replace(LOSSES["logistic"], generator=in_double, formulas=["L_D", "L_G"]))
    assert np.allclose(trained(gan, images, 3)["g_loss"], trained(plain, images, 3)["g_loss"], rtol=1e-4)
    assert "L_G" in gan.loss._repr_markdown_()


def test_every_loss_says_its_formulas_and_its_source():
    for loss in LOSSES.values():
        shown = loss._repr_markdown_()
        assert all(formula and formula in shown for formula in loss.formulas) and loss.source in shown


def test_normal_noise_is_normal_and_the_prior_is_saved(tmp_path):
    z = sample_noise(20_000, 3, seed=4, prior="normal")
    assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02 and abs((z**4).mean() - 3) < 0.2
    gan = tiny_gan(prior="normal")
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    assert loaded.prior == "normal" and np.array_equal(loaded.generate(5), gan.generate(5))
    _, z, z_of_g = gan.minibatches(tf.zeros([10, 16]), 4000, alternation=3)
    assert not np.array_equal(z, z_of_g)
    for noise in z, z_of_g:
        assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    gan.prior = "uniform"
    assert all(np.abs(noise).max() <= 1 for noise in gan.minibatches(tf.zeros([10, 16]), 4000, alternation=3)[1:])
    with pytest.raises(ValueError, match="prior is 'gaussian', expected one of 'uniform', 'normal'"):
        gan.prior = "gaussian"
