"""Training: who moves, what repeats, what stops it, and what it says to wrong use."""

import _thread
import signal
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import in_another_process, same, state, tiny_gan, trained

import gan_lib
from gan_lib import GAN, LOSSES, Loss, build_discriminator, build_generator, sample_noise, train


def copies(*owners):
    return [variable.numpy() for owner in owners for variable in owner.variables]


def test_a_step_of_the_discriminator_moves_the_discriminator_alone(images):
    gan = tiny_gan()
    g, d = copies(gan.generator, gan.generator_optimizer), copies(gan.discriminator)
    gan.discriminator_step(images[:16], sample_noise(16, 5))
    assert same(g, copies(gan.generator, gan.generator_optimizer))
    assert not any(np.array_equal(a, b) for a, b in zip(d, copies(gan.discriminator)))


def test_a_step_of_the_generator_moves_the_generator_alone(images):
    gan = tiny_gan()
    g, d = copies(gan.generator), copies(gan.discriminator, gan.discriminator_optimizer)
    gan.generator_step(sample_noise(16, 5))
    assert same(d, copies(gan.discriminator, gan.discriminator_optimizer))
    assert not any(np.array_equal(a, b) for a, b in zip(g, copies(gan.generator)))


def test_one_step_agrees_with_gradients_and_adam_written_out(images):
    gan = tiny_gan()
    (W1, b1, W2, b2), x, z = gan.discriminator.get_weights(), images[:16], sample_noise(16, 5)
    both = np.concatenate([x, gan.generator(z)]).astype(np.float64)
    hidden = np.maximum(0, both @ W1 + b1)
    logits = hidden @ W2 + b2
    is_real = np.repeat([1.0, 0.0], 16)[:, None]
    by_logit = (1 / (1 + np.exp(-logits)) - is_real) / 16
    by_hidden = (by_logit @ W2.T) * (hidden > 0)
    gradients = both.T @ by_hidden, by_hidden.sum(0), hidden.T @ by_logit, by_logit.sum(0)
    loss, d_real, d_fake = gan.discriminator_step(x, z)
    assert np.isclose(loss, np.logaddexp(0, -logits[:16]).mean() + np.logaddexp(0, logits[16:]).mean())
    assert np.isclose(d_real, (1 / (1 + np.exp(-logits[:16]))).mean())
    assert np.isclose(d_fake, (1 / (1 + np.exp(-logits[16:]))).mean())
    for before, gradient, after in zip((W1, b1, W2, b2), gradients, gan.discriminator.get_weights()):
        first_step_of_adam = before - 0.001 * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1 - 0.999))
        assert np.allclose(after, first_step_of_adam, atol=2e-6)


def test_same_seed_same_weights_in_two_processes():
    program = ("import hashlib; gan = tiny_gan(seed=3); trained(gan, two_kinds(), 150)\n"
               "print(hashlib.sha256(b''.join(v.tobytes() for v in state(gan))).hexdigest())")
    assert in_another_process(program) == in_another_process(program)


def test_other_seeds_give_other_weights(images):
    ends = []
    for seed in range(3):
        gan = tiny_gan(seed)
        trained(gan, images, 20)
        ends.append(gan.generator.get_weights()[0].tobytes())
    assert len(set(ends)) == 3


def test_how_a_run_is_cut_up_does_not_matter(images):
    whole, cut = tiny_gan(), tiny_gan()
    reports = trained(whole, images, 100)
    trained(cut, images, 41, report_every=7)
    trained(cut, images, 59, report_every=1000)
    assert same(state(whole), state(cut))
    assert [report.step for report in reports] == [100] and whole.step == cut.step == 100


def test_reports_are_means_over_the_alternations_between_them(images):
    fine, coarse = trained(tiny_gan(), images, 30, report_every=1), trained(tiny_gan(), images, 30, report_every=10)
    for i, report in enumerate(coarse):
        assert np.allclose(report[1:5], np.mean([r[1:5] for r in fine[10 * i:10 * i + 10]], axis=0), rtol=1e-4)
    assert all(report.per_second > 0 for report in fine)


def test_rates_and_steps_change_between_calls_without_compiling_again(images):
    gan = tiny_gan()
    trained(gan, images, 4)
    gan.discriminator_steps = 2
    trained(gan, images, 4)
    compiled = gan._compiled.experimental_get_tracing_count()
    weights = gan.generator.get_weights()
    gan.generator_optimizer.learning_rate = 0.0
    gan.discriminator_steps = 5
    trained(gan, images, 4)
    assert all(np.array_equal(a, b) for a, b in zip(weights, gan.generator.get_weights()))
    gan.discriminator_steps = 1
    trained(gan, images, 4)
    assert gan._compiled.experimental_get_tracing_count() == compiled
    assert int(gan.discriminator_optimizer.iterations) == 4 * (1 + 2 + 5 + 1) and gan.step == 16


def compilations_by_xla(program, folder, monkeypatch):
    """How many times XLA compiled the loop of training in a fresh Python that ran this program."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={folder} --xla_dump_hlo_as_text")
    in_another_process(program)
    return len(list(folder.glob("*alternate*before_optimizations.txt")))


@pytest.mark.skipif(not gan_lib._has_xla(), reason="this TensorFlow cannot compile with XLA")
def test_xla_compiles_once_for_slices_of_every_length_and_once_for_several_steps(tmp_path, monkeypatch):
    program = ("gan, images = tiny_gan(), two_kinds()\n"
               "trained(gan, images, 10, report_every=4)\n"
               "trained(gan, images, 3)\n")
    assert compilations_by_xla(program, tmp_path / "one", monkeypatch) == 1
    program += "for gan.discriminator_steps in (2, 3, 1): trained(gan, images, 5, report_every=3)\n"
    assert compilations_by_xla(program, tmp_path / "several", monkeypatch) == 2


def test_one_step_of_the_discriminator_is_the_same_in_either_compiled_form(images):
    straight, looped = tiny_gan(), tiny_gan()
    straight._compiled(tf.constant(images), 16, tf.constant(20), 1, straight.loss, straight.prior)
    looped._compiled(tf.constant(images), 16, tf.constant(20), tf.constant(1), looped.loss, looped.prior)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(state(straight), state(looped)))


def test_trains_without_xla_too(images, monkeypatch):
    monkeypatch.setattr(gan_lib, "_has_xla", lambda: False)
    gan = tiny_gan()
    before = state(gan)
    assert trained(gan, images, 5)[-1].step == 5 and not same(before, state(gan))


@pytest.mark.parametrize("seed", range(3))
def test_learns_where_the_ink_is(images, seed):
    one_kind = images[images[:, 0] > 0.5]
    gan = tiny_gan(seed, hidden=64)
    before = np.abs(gan.generate(500) - one_kind.mean(0)).mean()
    trained(gan, one_kind, 3000, report_every=1000)
    after = np.abs(gan.generate(500) - one_kind.mean(0)).mean()
    assert after < 0.2 < before


class Interrupted(Exception):
    pass


def test_leaving_the_loop_and_coming_back_changes_nothing(images):
    whole, cut = tiny_gan(), tiny_gan()
    trained(whole, images, 60)
    with pytest.raises(Interrupted):
        for report in train(cut, images, 1000, batch_size=16, report_every=10):
            if report.step == 40:
                raise Interrupted
    assert cut.step == 40
    trained(cut, images, 20)
    assert same(state(whole), state(cut))


@pytest.fixture
def interruptible():
    """Interrupts are heard, even where a script started the tests in the background, which makes them deaf."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("after", [0.05, 0.31, 0.5])
def test_interrupt_at_any_time_leaves_whole_alternations(interruptible, images, after):
    gan, whole = tiny_gan(), tiny_gan()
    trained(gan, images, 1)
    threading.Timer(after, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        trained(gan, images, 10**7, report_every=20)
    stopped_at = gan.step
    assert 0 < stopped_at < 10**7
    trained(gan, images, 5)
    trained(whole, images, stopped_at + 5)
    assert same(state(gan), state(whole))


def test_a_loss_on_probabilities_dies_at_its_cliff_and_says_where(images):
    gan = tiny_gan(loss="log", discriminator_optimizer=keras.optimizers.SGD(30.0))
    seen = []
    with pytest.raises(FloatingPointError, match="'log' stopped being finite at alternation") as error:
        for report in train(gan, images, 2000, batch_size=16, report_every=5):
            seen = [report.step, state(gan)]
    step, weights = seen or (0, state(tiny_gan(discriminator_optimizer=keras.optimizers.SGD(30.0))))
    assert gan.step == step and same(weights, state(gan))
    assert f"the last report, at alternation {step}" in str(error.value) and "'logistic'" in str(error.value)


@pytest.mark.parametrize("dies_at", [1, 13])
def test_the_alternation_at_which_a_loss_dies_is_the_right_one(images, dies_at):
    gan = tiny_gan()

    def dies(fake_logits):
        due = gan.generator_optimizer.iterations >= dies_at - 1
        return LOSSES["logistic"].generator(fake_logits) + tf.where(due, np.inf, 0.0)

    gan.loss = Loss("mine", LOSSES["logistic"].discriminator, dies)
    with pytest.raises(FloatingPointError, match=rf"'mine' stopped being finite at alternation {dies_at}\."):
        trained(gan, images, 30, report_every=10)
    assert gan.step == (dies_at - 1) // 10 * 10 and all(np.isfinite(v).all() for v in state(gan))


BAD_IMAGES = {
    "0 to 255": (lambda x: 255 * x, r"from .* to .*, expected \[0, 1\].* Divide them by 255"),
    "negative": (lambda x: x - 0.5, r"values from -.* expected \[0, 1\]"),
    "NaN": (lambda x: np.where(x > 0.95, np.nan, x), "hold NaN"),
    "infinite": (lambda x: np.where(x > 0.95, np.inf, x), "or infinity"),
    "square": (lambda x: x.reshape(-1, 4, 4), r"shape \[300, 4, 4\], expected \[n, 16\]"),
    "too wide": (lambda x: np.hstack([x, x]), r"shape \[300, 32\], expected \[n, 16\]"),
    "empty": (lambda x: x[:0], r"shape \[0, 16\], expected \[n, 16\] with n of at least 1"),
    "words": (lambda x: x.astype(str), "expected float32"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_wrong_images_are_named_at_once(images, kind):
    spoil, message = BAD_IMAGES[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        train(tiny_gan(), spoil(images), 5)


def test_data_need_not_be_pixels_where_the_generator_draws_other_numbers():
    generator = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    discriminator = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    assert trained(GAN(generator, discriminator), np.full((20, 1), 7.0), 3)[-1].step == 3


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3", None])
@pytest.mark.parametrize("name", ["steps", "batch_size", "report_every"])
def test_wrong_counts_are_named_at_once(images, name, value):
    arguments = {"steps": 5} | {name: value}
    with pytest.raises(ValueError, match=f"{name} is .*expected a whole number of at least 1"):
        train(tiny_gan(), images, **arguments)


def test_wrong_discriminator_steps_are_named(images):
    with pytest.raises(ValueError, match="discriminator_steps is 0, expected"):
        trained(tiny_gan(discriminator_steps=0), images, 5)


def test_an_unknown_loss_gets_the_list_of_the_known_ones():
    with pytest.raises(ValueError, match="no loss 'logarithm'.*'log', 'logistic', 'minimax'"):
        GAN(loss="logarithm")


def test_networks_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="same number of pixels"):
        GAN(build_generator(pixels=10), build_discriminator(pixels=11))
    with pytest.raises(ValueError, match="expected one logit"):
        GAN(build_generator(pixels=784), keras.Sequential([keras.Input((784,)), keras.layers.Dense(2)]))


def test_one_optimiser_for_both_networks_is_refused():
    adam = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="are one object, expected two"):
        tiny_gan(generator_optimizer=adam, discriminator_optimizer=adam)


def test_training_that_nobody_iterates_over_is_not_passed_over_in_silence(images):
    with pytest.warns(RuntimeWarning, match="nothing was trained"):
        train(tiny_gan(), images, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(tiny_gan(), images, 5)
