"""Saving: a loaded GAN goes on as if it had never stopped, and nothing is lost when something goes wrong."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import in_another_process, same, state, tiny_gan, tiny_networks, trained

import gan_lib
from gan_lib import GAN, LOSSES, Loss

load = keras.saving.load_model
layers, optimizers = keras.layers, keras.optimizers


def with_layers_that_learn_and_drop(seed=0):
    """A pair with BatchNormalization, Dropout and noise, which keep statistics and draw random numbers."""
    return (keras.Sequential([keras.Input((5,)), layers.Dense(8), layers.BatchNormalization(), layers.ReLU(),
                              layers.Dropout(0.2), layers.Dense(16, "sigmoid")]),
            keras.Sequential([keras.Input((16,)), layers.GaussianNoise(0.1), layers.Dense(8), layers.LeakyReLU(),
                              layers.Dropout(0.3), layers.Dense(1)]))


PAIRS = {"the article's": tiny_networks, "BatchNormalization and Dropout": with_layers_that_learn_and_drop}
OPTIMIZERS = {
    "Adam": lambda: optimizers.Adam(0.002), "RMSprop": lambda: optimizers.RMSprop(0.002),
    "SGD with momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
}


@pytest.fixture(scope="module")
def continued_elsewhere(images, tmp_path_factory):
    """For each pair and optimiser: a GAN, and the file of its copy that went on in another process."""
    folder, gans, program = tmp_path_factory.mktemp("saved"), {}, "import keras\n"
    for i, (pair, optimizer) in enumerate((pair, optimizer) for pair in PAIRS for optimizer in OPTIMIZERS):
        gan = GAN(*PAIRS[pair](), seed=4)
        gan.compile(generator_optimizer=OPTIMIZERS[optimizer](), discriminator_optimizer=OPTIMIZERS[optimizer](),
                    discriminator_steps=2, r1=0.1)
        trained(gan, images, 10)
        gan.save(folder / f"{i}.keras")
        trained(gan, images, 15)
        gans[pair, optimizer] = gan, folder / f"{i}.continued.keras"
        program += (f"gan = keras.saving.load_model({str(folder / f'{i}.keras')!r})\n"
                    f"trained(gan, two_kinds(), 15); gan.save({str(gans[pair, optimizer][1])!r})\n")
    in_another_process(program)
    return gans


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("pair", PAIRS)
def test_loaded_in_another_process_and_continued_equals_never_stopped(continued_elsewhere, pair, optimizer):
    gan, path = continued_elsewhere[pair, optimizer]
    continued = load(path)
    assert continued.alternations == gan.alternations == 25
    assert same(state(continued), state(gan)) and len(state(gan)) > 15


@pytest.fixture(scope="module")
def saved(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "gan.keras"
    gan = tiny_gan(seed=4, discriminator_steps=2, loss="hinge", r2=0.5, generator_optimizer=optimizers.RMSprop(0.002))
    trained(gan, images, 10)
    gan.save(path)
    return path, gan


def test_all_of_it_comes_back(saved):
    path, gan = saved
    loaded = load(path)
    assert same(state(gan), state(loaded))
    for name in "seed", "prior", "discriminator_steps", "loss", "r1", "r2", "alternations", "jit_compile":
        assert getattr(loaded, name) == getattr(gan, name)
    assert type(loaded.generator_optimizer) is type(gan.generator_optimizer)
    assert np.array_equal(gan.generate(3), loaded.generate(3))


def test_loaded_without_its_settings_it_keeps_its_weights_and_takes_new_ones(saved, images):
    path, gan = saved
    loaded = load(path, compile=False)
    assert np.array_equal(gan.generate(3), loaded.generate(3)) and loaded.alternations == 10
    loaded.compile("logistic")
    trained(loaded, images, 5)
    assert loaded.alternations == 15


def test_weights_alone_come_back_with_optimisers_and_count(saved, tmp_path):
    path, gan = saved
    gan.save_weights(tmp_path / "gan.weights.h5")
    other = tiny_gan(seed=4, generator_optimizer=optimizers.RMSprop(0.1))
    other.load_weights(tmp_path / "gan.weights.h5")
    assert same(state(other), state(gan))


def test_what_an_optimiser_remembers_of_frozen_layers_comes_back_too(images, tmp_path):
    gan = tiny_gan()
    trained(gan, images, 5)
    gan.discriminator.layers[0].trainable = False
    gan.save(tmp_path / "gan.keras")
    assert same(state(gan), state(load(tmp_path / "gan.keras")))


def test_weights_loaded_before_compile_bring_the_optimisers_memory(images, tmp_path):
    gan, other = tiny_gan(), GAN(*tiny_networks())
    trained(gan, images, 5)
    gan.save_weights(tmp_path / "gan.weights.h5")
    other.load_weights(tmp_path / "gan.weights.h5")
    assert same(state(gan), state(other))


def test_a_loss_of_ones_own_has_to_be_passed(tmp_path):
    mine = Loss("mine", LOSSES["logistic"].discriminator, LOSSES["logistic"].generator)
    tiny_gan(loss=mine).save(tmp_path / "mine.keras")
    with pytest.raises(ValueError, match="trained with a loss of your own, 'mine'.*custom_objects={'mine': "):
        load(tmp_path / "mine.keras")
    assert load(tmp_path / "mine.keras", custom_objects={"mine": mine}).loss is mine


def test_a_loss_of_ones_own_is_not_taken_for_the_librarys_of_that_name(tmp_path):
    mine = Loss("hinge", LOSSES["logistic"].discriminator, LOSSES["logistic"].generator)
    tiny_gan(loss=mine).save(tmp_path / "mine.keras")
    with pytest.raises(ValueError, match="trained with a loss of your own, 'hinge'"):
        load(tmp_path / "mine.keras")


class PixelNorm(layers.Layer):
    def call(self, x):
        return x / keras.ops.sqrt(keras.ops.mean(x * x, -1, keepdims=True) + 1e-8)


def own_layer_in_front(layer):
    return keras.Sequential([keras.Input((5,)), layer, layers.Dense(16, "sigmoid")])


def test_a_layer_of_ones_own_that_python_does_not_find_is_named_with_the_cure(tmp_path):
    GAN(own_layer_in_front(PixelNorm()), tiny_networks()[1]).save(tmp_path / "gan.keras")
    printed = in_another_process(f"""
import keras
class PixelNorm(keras.layers.Layer):
    def call(self, x): return x
try: keras.saving.load_model({str(tmp_path / "gan.keras")!r})
except Exception as error: print(len(str(error)), error)
print(keras.saving.load_model({str(tmp_path / "gan.keras")!r}, custom_objects=dict(PixelNorm=PixelNorm)).alternations)
""")
    length, message = printed.split(" ", 1)
    assert int(length) < 800 and "generator" in message and "custom_objects={'PixelNorm': PixelNorm}" in message
    assert message.endswith("\n0")


def test_a_lambda_is_named_with_the_cure(tmp_path):
    GAN(own_layer_in_front(layers.Lambda(lambda x: 2 * x)), tiny_networks()[1]).save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match="safe_mode=False") as error:
        load(tmp_path / "gan.keras")
    assert len(str(error.value)) < 800
    load(tmp_path / "gan.keras", safe_mode=False)


def doubled(x):
    return 2 * x


def test_a_function_of_ones_own_is_named_with_the_cure(tmp_path):
    GAN(own_layer_in_front(layers.Dense(8, doubled)), tiny_networks()[1]).save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match=r"The generator .* has 'doubled', .*custom_objects={'doubled': doubled}\)"):
        load(tmp_path / "gan.keras")
    assert load(tmp_path / "gan.keras", custom_objects={"doubled": doubled}).alternations == 0


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_as_activation_is_named_and_the_weights_can_be_had(tmp_path):
    gan = GAN(own_layer_in_front(layers.Dense(8, lambda x: 2 * x)), tiny_networks()[1])
    gan.save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match="A lambda as an activation cannot be read.*gan.load_weights"):
        load(tmp_path / "gan.keras")
    other = GAN(own_layer_in_front(layers.Dense(8, doubled)), tiny_networks(seed=1)[1])
    other.load_weights(tmp_path / "gan.keras")
    assert np.array_equal(gan.generate(3), other.generate(3))


class Slow(optimizers.SGD):
    pass


def test_an_optimiser_of_ones_own_is_named_with_the_cure(tmp_path):
    tiny_gan(discriminator_optimizer=Slow(0.1)).save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match="The discriminator_optimizer .*custom_objects={'Slow': Slow}") as error:
        load(tmp_path / "gan.keras")
    assert len(str(error.value)) < 800
    loaded = load(tmp_path / "gan.keras", custom_objects={"Slow": Slow})
    assert isinstance(loaded.discriminator_optimizer, Slow)


class Forgetful(layers.Layer):
    def __init__(self):
        super().__init__()

    call = PixelNorm.call


def test_a_layer_that_does_not_take_what_its_configuration_holds_is_named_with_the_cure(tmp_path):
    GAN(own_layer_in_front(Forgetful()), tiny_networks()[1]).save(tmp_path / "gan.keras")
    with pytest.raises(ValueError, match=r"does not get 'Forgetful' .*let __init__ take \*\*kwargs"):
        load(tmp_path / "gan.keras", custom_objects={"Forgetful": Forgetful})


@pytest.mark.parametrize(("method", "name", "ending"), [
    ("save", "gan.h5", ".keras"), ("save", "gan", ".keras"), ("save_weights", "gan.npz", ".weights.h5")])
def test_a_name_with_another_ending_is_refused(tmp_path, method, name, ending):
    with pytest.raises(ValueError, match=f"called '{name}', expected a name that ends in {ending}"):
        getattr(tiny_gan(), method)(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_weights_of_another_gan_are_refused_and_change_nothing(saved, tmp_path):
    path, _ = saved
    other = tiny_gan(hidden=9)
    before = state(other)
    with pytest.raises(ValueError, match="not hold the weights of a GAN like this one.*keras.saving.load_model"):
        other.load_weights(path)
    assert same(before, state(other))


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_and_kept(saved, tmp_path, share):
    whole, cut = saved[0].read_bytes(), tmp_path / "cut.keras"
    cut.write_bytes(whole[:int(share * len(whole))])
    for read in load, tiny_gan().load_weights:
        with pytest.raises((ValueError, OSError), match="cut.keras"):
            read(cut)
    assert cut.read_bytes() == whole[:int(share * len(whole))]


def test_a_keras_file_of_another_model_is_no_gan_and_its_weights_are_refused(tmp_path):
    tiny_networks()[0].save(tmp_path / "generator.keras")
    assert not isinstance(load(tmp_path / "generator.keras"), GAN)
    gan = tiny_gan()
    before = state(gan)
    with pytest.raises(ValueError, match="not hold the weights of a GAN like this one"):
        gan.load_weights(tmp_path / "generator.keras")
    assert same(before, state(gan))


def test_a_folder_that_is_not_there_and_a_file_that_is_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        tiny_gan().save(tmp_path / "nowhere" / "gan.keras")
    (tmp_path / "gan.keras").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="There is a file .*gan.keras already"):
        tiny_gan().save(tmp_path / "gan.keras", overwrite=False)
    assert (tmp_path / "gan.keras").read_bytes() == b"old"


@pytest.mark.parametrize(("name", "method"), [("gan.keras", "save"), ("gan.weights.h5", "save_weights")])
def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, name, method):
    path = tmp_path / name
    path.write_bytes(b"old")

    def fails_half_way(model, path, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Model, method, fails_half_way)
    with pytest.raises(OSError, match="No space"):
        getattr(tiny_gan(), method)(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
def test_keras_says_when_a_disk_is_full(tmp_path):
    (tmp_path / "gan.keras").write_bytes(b"old")
    os.symlink("/dev/full", tmp_path / f"part-{os.getpid()}-gan.keras")
    with pytest.raises(OSError):
        tiny_gan().save(tmp_path / "gan.keras")
    assert (tmp_path / "gan.keras").read_bytes() == b"old"


def test_a_run_forks_from_one_moment_and_both_see_the_same_data(saved, images):
    one, other = load(saved[0]), load(saved[0])
    other.compile("logistic", generator_optimizer=optimizers.SGD(0.1))
    for ahead in 0, 7:
        seen = [gan.minibatches(tf.constant(images), 16, gan.alternations + ahead) for gan in (one, other)]
        assert all(np.array_equal(a, b) for a, b in zip(*seen))
    assert gan_lib.GAN is type(one)
