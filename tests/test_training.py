"""Training: who moves, what repeats, what stops it, and what it says to wrong use."""

import _thread
import math
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import in_another_process, same, state, tiny_gan, tiny_networks, trained

import gan_lib
from gan_lib import GAN, LOSSES, Loss, build_dcgan, sample_noise


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
    program = ("import hashlib; gan = tiny_gan(seed=3, jit_compile='auto'); trained(gan, two_kinds(), 150)\n"
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
    trained(whole, images, 100)
    trained(cut, images, 7, epochs=5)
    trained(cut, images, 65)
    assert same(state(whole), state(cut)) and whole.alternations == cut.alternations == 100


def test_reports_are_means_over_their_epoch(images):
    fine, coarse = trained(tiny_gan(), images, 1, epochs=30), trained(tiny_gan(), images, 10, epochs=3)
    for name in "d_loss", "g_loss", "d_real", "d_fake":
        assert np.allclose(coarse[name], np.reshape(fine[name], (3, 10)).mean(axis=1), rtol=1e-4)
    assert len(fine["per_second"]) == 30 and min(fine["per_second"]) > 0


def test_an_epoch_sees_as_many_data_as_there_are(images):
    gan = tiny_gan()
    gan.fit(images, batch_size=128, epochs=2, verbose=0)
    assert gan.alternations == 2 * math.ceil(300 / 128)


def test_rates_and_steps_change_between_calls_without_compiling_again(images):
    gan = tiny_gan()
    trained(gan, images, 4)
    gan.compile(discriminator_steps=2)
    trained(gan, images, 4)
    compiled, weights = list(gan._pair.loops), gan.generator.get_weights()
    gan.generator_optimizer.learning_rate = 0.0
    gan.compile(discriminator_steps=5)
    trained(gan, images, 4)
    assert all(np.array_equal(a, b) for a, b in zip(weights, gan.generator.get_weights()))
    gan.compile(discriminator_steps=1)
    trained(gan, images, 4)
    assert list(gan._pair.loops) == compiled
    assert all(loop.experimental_get_tracing_count() == 1 for loop in gan._pair.loops.values())
    assert int(gan.discriminator_optimizer.iterations) == 4 * (1 + 2 + 5 + 1) and gan.alternations == 16


def test_what_is_not_passed_to_compile_stays_and_so_do_weights_and_count(images):
    gan = tiny_gan(loss="hinge", r1=0.3, discriminator_steps=2, generator_optimizer=keras.optimizers.SGD(0.1))
    trained(gan, images, 3)
    before, optimizer = state(gan), gan.generator_optimizer
    gan.compile("logistic")
    gan.compile()
    assert (gan.loss.name, gan.r1, gan.r2, gan.discriminator_steps, gan.alternations) == ("logistic", 0.3, 0, 2, 3)
    assert gan.generator_optimizer is optimizer and same(before, state(gan))
    gan.compile(generator_optimizer=keras.optimizers.Adam(0.01))
    trained(gan, images, 3)
    assert gan.alternations == 6


def test_an_assignment_is_what_compile_does(images):
    one, other = tiny_gan(), tiny_gan()
    one.compile("hinge", r1=0.2, r2=0.1, discriminator_steps=3)
    other.loss, other.r1, other.r2, other.discriminator_steps = "hinge", 0.2, 0.1, 3
    for gan in one, other:
        trained(gan, images, 5)
    assert same(state(one), state(other))


def test_a_gan_that_was_never_compiled_trains_with_the_defaults(images):
    gan, compiled = GAN(*tiny_networks()), tiny_gan()
    assert trained(gan, images, 5)["d_loss"] == trained(compiled, images, 5)["d_loss"]
    assert gan.generator_optimizer.beta_1 == 0.5 and gan.loss is LOSSES["logistic"]


def compilations_by_xla(program, folder, monkeypatch):
    """How many times XLA compiled the loop of training in a fresh Python that ran this program."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={folder} --xla_dump_hlo_as_text")
    in_another_process(program)
    return len(list(folder.glob("*alternate*before_optimizations.txt")))


@pytest.mark.skipif(not gan_lib._xla_works(), reason="this TensorFlow cannot compile with XLA")
def test_xla_compiles_once_for_slices_of_every_length_and_once_for_several_steps(tmp_path, monkeypatch):
    program = ("gan, images = tiny_gan(jit_compile=True), two_kinds()\n"
               "trained(gan, images, 10, epochs=2)\n"
               "trained(gan, images, 3)\n")
    assert compilations_by_xla(program, tmp_path / "one", monkeypatch) == 1
    program += "for gan.discriminator_steps in (2, 3, 1): trained(gan, images, 5)\n"
    assert compilations_by_xla(program, tmp_path / "several", monkeypatch) == 2


@pytest.mark.parametrize("steps", [1, 3])
def test_xla_a_graph_and_single_steps_are_the_same_training(images, steps):
    ends = []
    for settings in {"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}:
        gan = tiny_gan(discriminator_steps=steps, r1=0.1, loss="relativistic")
        gan.compile(**settings)
        trained(gan, images, 12)
        ends.append(state(gan))
    assert all(np.allclose(a, b, atol=1e-4) for end in ends[1:] for a, b in zip(ends[0], end))


def test_train_step_is_one_alternation_of_fit(images):
    by_hand, by_fit = tiny_gan(), tiny_gan()
    x, z_of_d, z_of_g = by_hand.minibatches(images, 16, alternation=0)
    report = by_hand.train_step(x)
    assert np.allclose(report["d_loss"], trained(by_fit, images, 1)["d_loss"], rtol=1e-5) and by_hand.alternations == 1
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(state(by_hand), state(by_fit)))
    steps = tiny_gan()
    steps.discriminator_step(x, z_of_d), steps.generator_step(z_of_g)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(steps.get_weights()[1:], by_fit.get_weights()[1:]))


def test_keras_own_fit_trains_by_train_step(images):
    data = tf.data.Dataset.from_tensor_slices(images).batch(50)
    ours, keras_own = tiny_gan(), tiny_gan()
    ours.fit(data, verbose=0)
    keras.Model.fit(keras_own, data, shuffle=False, verbose=0)
    assert keras_own.alternations == ours.alternations == 6
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(state(ours), state(keras_own)))


@pytest.mark.parametrize("rows", [300, 290])  # the last minibatch whole, or not
def test_a_dataset_is_taken_in_its_order_and_begun_again_where_it_ends(images, rows):
    data = tf.data.Dataset.from_tensor_slices(images[:rows]).batch(50)
    whole, cut = tiny_gan(), tiny_gan()
    whole.fit(data, epochs=2, verbose=0)
    assert whole.alternations == 12
    cut.fit(data, steps_per_epoch=12, verbose=0)
    assert same(state(whole), state(cut))


def test_trains_without_xla_too(images, monkeypatch):
    monkeypatch.setattr(gan_lib, "_xla_works", lambda: False)
    gan = tiny_gan(jit_compile="auto")
    before = state(gan)
    trained(gan, images, 5)
    assert gan.alternations == 5 and not gan.jit_compile and not same(before, state(gan))


def test_auto_compiles_dense_networks_with_xla_and_convolutions_and_recurrence_without():
    layers = keras.layers
    recurrent = (keras.Sequential([keras.Input((5,)), layers.RepeatVector(4), layers.LSTM(4, return_sequences=True)]),
                 keras.Sequential([keras.Input((4, 4)), layers.GRU(4), layers.Dense(1)]))
    assert tiny_gan(jit_compile="auto").jit_compile == gan_lib._xla_works()
    for pair in build_dcgan((8, 8, 1), channels=2), recurrent:
        gan = GAN(*pair)
        gan.compile()
        assert not gan.jit_compile
        gan.compile(jit_compile=True)
        assert gan.jit_compile


def test_training_moves_the_statistics_of_batch_normalization_and_drawing_leaves_them():
    gan = GAN(*build_dcgan((8, 8, 1), channels=2))
    x = np.random.default_rng(0).random((16, 8, 8, 1), dtype=np.float32)
    dense, first, *_ = gan.generator.layers
    kernel = dense.get_weights()[0]
    of_d, of_g = (z @ kernel for z in gan.minibatches(x, 8, 0)[1:])
    statistics = [v for v in gan.non_trainable_variables if "moving" in v.path]
    before = [v.numpy() for v in statistics]
    gan.fit(x, batch_size=8, steps_per_epoch=1, verbose=0)
    assert np.allclose(first.moving_mean, 0.9 * 0.1 * of_d.mean(axis=0) + 0.1 * of_g.mean(axis=0), atol=1e-5)
    after = [v.numpy() for v in statistics]
    assert len(statistics) == 6 and not any(np.array_equal(a, b) for a, b in zip(before, after))
    gan.generate(8)
    assert all(np.array_equal(v, value) for v, value in zip(statistics, after))


def test_where_xla_cannot_compile_a_layer_training_goes_on_without_it_and_says_so(images, capsys):
    class Unsupported(keras.layers.Layer):
        def call(self, x):
            return x + 0 * tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32)

    def pair():
        generator, discriminator = tiny_gan().generator, tiny_gan().discriminator
        return generator, keras.Sequential([keras.Input((16,)), Unsupported(), *discriminator.layers])

    gan = GAN(*pair())
    trained(gan, images, 3)
    assert gan.alternations == 3 and not gan.jit_compile
    assert capsys.readouterr().out.count("XLA cannot compile this training, so it goes on without it") == 1
    trained(gan, images, 3)
    assert not capsys.readouterr().out
    gan = GAN(*pair())
    gan.compile(jit_compile=True)
    with pytest.raises(ValueError, match=r"XLA cannot compile this training.*gan.compile\(jit_compile=False\)"):
        trained(gan, images, 3)


@pytest.mark.parametrize("seed", range(3))
def test_learns_where_the_ink_is(images, seed):
    one_kind = images[images[:, 0] > 0.5]
    gan = tiny_gan(seed, hidden=64)
    before = np.abs(gan.generate(500) - one_kind.mean(0)).mean()
    trained(gan, one_kind, 3000)
    after = np.abs(gan.generate(500) - one_kind.mean(0)).mean()
    assert after < 0.2 < before


@pytest.fixture
def interruptible():
    """Interrupts are heard, even where a script started the tests in the background, which makes them deaf."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("after", "run_eagerly"), [(0.05, False), (0.31, False), (0.7, False), (0.333, True)])
def test_interrupt_at_any_time_leaves_whole_alternations(interruptible, images, after, run_eagerly):
    gan, whole = tiny_gan(run_eagerly=run_eagerly), tiny_gan(run_eagerly=run_eagerly)
    trained(gan, images, 1)
    threading.Timer(after, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        trained(gan, images, 10**7)
    stopped_at = gan.alternations
    assert 0 < stopped_at < 10**7
    trained(gan, images, 5)
    trained(whole, images, stopped_at + 5)
    assert same(state(gan), state(whole))


def test_in_a_notebook_an_interrupt_is_one_line(interruptible, images, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell, gan = InteractiveShell(), tiny_gan()
    trained(gan, images, 1)
    shell.push({"gan": gan, "images": images})
    threading.Timer(0.3, _thread.interrupt_main).start()
    result = shell.run_cell("gan.fit(images, batch_size=16, steps_per_epoch=10**7, verbose=0)")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    printed = capsys.readouterr().out.strip()
    assert printed == (f"Stopped at alternation {gan.alternations:,}. The GAN keeps what it has learned; run this cell "
                       "again to go on.")


def test_a_callback_that_raises_in_the_middle_of_an_epoch_leaves_whole_alternations(images):
    class Stopped(Exception):
        pass

    def stop(batch, logs):
        if batch == 3:
            raise Stopped

    gan, whole = tiny_gan(), tiny_gan()
    with pytest.raises(Stopped):
        trained(gan, images, 10, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)])
    trained(whole, images, 4)
    assert gan.alternations == 4 and same(state(gan), state(whole))


def test_a_loss_on_probabilities_dies_at_its_cliff_and_says_where(images):
    gan = tiny_gan(loss="log", discriminator_optimizer=keras.optimizers.SGD(30.0))
    last = {"alternation": 0, "state": state(gan)}
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: last.update(alternation=gan.alternations, state=state(gan)))
    with pytest.raises(FloatingPointError, match="'log' stopped being finite at alternation") as error:
        trained(gan, images, 5, epochs=400, callbacks=[keep])
    assert gan.alternations == last["alternation"] and same(last["state"], state(gan))
    assert f"the last report, at alternation {last['alternation']}" in str(error.value)
    assert "'logistic'" in str(error.value)


@pytest.mark.parametrize("dies_at", [1, 13])
def test_the_alternation_at_which_a_loss_dies_is_the_right_one(images, dies_at):
    gan = tiny_gan()

    def dies(fake_logits):
        due = gan.generator_optimizer.iterations >= dies_at - 1
        return LOSSES["logistic"].generator(fake_logits) + tf.where(due, np.inf, 0.0)

    gan.compile(Loss("mine", LOSSES["logistic"].discriminator, dies))
    with pytest.raises(FloatingPointError, match=rf"'mine' stopped being finite at alternation {dies_at}\."):
        trained(gan, images, 10, epochs=3)
    assert gan.alternations == (dies_at - 1) // 10 * 10 and all(np.isfinite(v).all() for v in state(gan))


class Notes(keras.callbacks.Callback):
    """Keeps the moments at which it was called, in order."""

    def __init__(self):
        super().__init__()
        self.moments = []

    def on_train_begin(self, logs=None):
        self.moments.append("train begins")

    def on_epoch_begin(self, epoch, logs=None):
        self.moments.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.moments.append((batch, self.model.alternations, set(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.moments.append(f"report {epoch} {sorted(logs)}")

    def on_train_end(self, logs=None):
        self.moments.append("train ends")


def test_callbacks_are_called_at_keras_moments(images):
    notes, names = Notes(), ["d_fake", "d_loss", "d_real", "g_loss"]
    trained(tiny_gan(), images, 2, epochs=2, callbacks=[notes])
    report = sorted([*names, "per_second"])
    assert notes.moments == [
        "train begins", "epoch 0", (0, 1, set(names)), (1, 2, set(names)), f"report 0 {report}",
        "epoch 1", (0, 3, set(names)), (1, 4, set(names)), f"report 1 {report}", "train ends"]


def test_keras_callbacks_do_what_they_do_in_keras(images, tmp_path):
    callbacks, gan = keras.callbacks, tiny_gan()
    rates = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(gan.generator_optimizer, "learning_rate", 0.001 / (epoch + 1)))
    trained(gan, images, 5, epochs=3, callbacks=[
        rates, callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"), callbacks.TensorBoard(tmp_path / "logs"),
        callbacks.CSVLogger(tmp_path / "log.csv")])
    assert np.isclose(gan.generator_optimizer.learning_rate, 0.001 / 3)
    assert keras.saving.load_model(tmp_path / "2.keras").alternations == 10
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4 and list(tmp_path.glob("logs/**/events*"))
    stop = callbacks.EarlyStopping("per_second", mode="max", min_delta=1e9, patience=1)
    assert len(trained(tiny_gan(), images, 5, epochs=9, callbacks=[stop])["d_loss"]) == 2


def test_backup_and_restore_goes_on_after_the_last_whole_epoch(images, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    def stop(epoch, logs):
        if epoch == 2:
            raise InterruptedError

    whole, stopped, another = tiny_gan(), tiny_gan(), tiny_gan()
    trained(whole, images, 5, epochs=4)
    with pytest.raises(InterruptedError):
        trained(stopped, images, 5, epochs=4,
                callbacks=[backup(), keras.callbacks.LambdaCallback(on_epoch_begin=stop)])
    reports = trained(another, images, 5, epochs=4, callbacks=[backup()])
    assert len(reports["d_loss"]) == 2 and same(state(whole), state(another))


def test_the_progress_bar_is_keras_own_and_can_be_silent(images, capsys):
    gan = tiny_gan()
    gan.fit(images, batch_size=16, steps_per_epoch=3, epochs=2)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown and "3/3" in shown and "d_loss: " in shown
    gan.fit(images, batch_size=16, steps_per_epoch=3, verbose=0)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
@pytest.mark.parametrize("name", ["epochs", "batch_size", "steps_per_epoch"])
def test_wrong_counts_are_named_at_once(images, name, value):
    with pytest.raises(ValueError, match=f"{name} is .*expected a whole number of at least 1"):
        tiny_gan().fit(images, **{name: value})


def test_a_run_on_two_replicas_is_that_on_one():
    assert in_another_process("""
import keras, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           2 * [tf.config.LogicalDeviceConfiguration()])
mirrored, images = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), two_kinds()
for settings in {}, {"r1": 0.3, "loss": "relativistic", "discriminator_steps": 2}:
    ends = []
    for strategy in tf.distribute.get_strategy(), mirrored:
        with strategy.scope():
            gan = tiny_gan(generator_optimizer=keras.optimizers.SGD(0.1),
                           discriminator_optimizer=keras.optimizers.SGD(0.1), **settings)
        trained(gan, images, 10)
        gan.fit(tf.data.Dataset.from_tensor_slices(images).batch(50), verbose=0)
        ends.append(gan.get_weights())
    assert gan._replicas == 2 and all(np.allclose(a, b, atol=1e-6) for a, b in zip(*ends))
try: gan.fit(images, batch_size=15)
except ValueError as error: print(error)
""") == "batch_size is 15, expected a multiple of 2, the replicas that share each minibatch."
