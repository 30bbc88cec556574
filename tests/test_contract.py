"""What people bring works, or is refused at once with what came, what is expected and what to do.

Each section is one kind of fault that people met with GANs in notebooks; the cases are theirs.
"""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from conftest import in_another_process, same, tiny_gan, tiny_networks, trained

import gan_lib
from gan_lib import GAN, LOSSES, Loss, build_discriminator, build_generator

layers, optimizers = keras.layers, keras.optimizers


def network(inputs, *stack):
    return keras.Sequential([keras.Input((inputs,)), *stack])


def small(generator=None, discriminator=None, **settings):
    """A GAN of these networks, or tiny ones, that descends plainly."""
    default_generator, default_discriminator = tiny_networks()
    gan = GAN(generator or default_generator, discriminator or default_discriminator)
    gan.compile(**{"generator_optimizer": optimizers.SGD(0.01), "discriminator_optimizer": optimizers.SGD(0.01)}
                | settings)
    return gan


# -- pictures of any shape ------------------------------------------------------------------------------------

COLOURED = np.random.default_rng(0).random((64, 32, 32, 3), dtype=np.float32)


def test_the_advice_for_pictures_of_another_size_can_be_followed():
    with pytest.raises(ValueError, match=r"\[64, 32, 32, 3\], expected \[n, 784\].*build_generator\(pixels=3072\)"):
        GAN().fit(COLOURED)
    gan = GAN(build_generator(pixels=3072, hidden=4), build_discriminator(pixels=3072, hidden=4))
    gan.fit(COLOURED.reshape(len(COLOURED), 3072), steps_per_epoch=2, verbose=0)
    assert gan.alternations == 2


WRONG_SHAPES = {
    "one picture": (lambda x: x[0], r"\[16\], expected \[n, 16\].*images\[None\]"),
    "no picture": (lambda x: x[:0], r"\[0, 16\].* There is no picture"),
    "square": (lambda x: x.reshape(-1, 4, 4), r"\[300, 4, 4\].*images.reshape\(len\(images\), 16\)"),
    "too wide": (lambda x: np.hstack([x, x]), r"\[300, 32\], expected \[n, 16\]"),
    "minibatches": (lambda x: x.reshape(3, 100, 16), r"\[3, 100, 16\].*Join them: np.concatenate\(images\)"),
    "a number": (lambda x: np.float32(3), r"shape \[\], expected \[n, 16\] with n of at least 1\.$"),
}


@pytest.mark.parametrize("kind", WRONG_SHAPES)
def test_data_of_a_wrong_shape_get_the_cure(images, kind):
    spoil, message = WRONG_SHAPES[kind]
    with pytest.raises(ValueError, match=message):
        tiny_gan().fit(spoil(images))


SQUARE = keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(1)])
WRONG_SQUARES = {
    "larger": ((9, 6, 6, 3), r"expected \[n, 4, 4, 3\].*build both networks for theirs: build_dcgan\(\(6, 6, 3\)\)\.$"),
    "larger and grey": ((9, 6, 6), r"build_dcgan\(\(6, 6, 1\)\)\.$"),
    "colours first": ((9, 3, 4, 4), r"The colours come last here: images.transpose\(0, 2, 3, 1\)\.$"),
    "in rows": ((9, 48), r"images.reshape\(len\(images\), 4, 4, 3\)"),
}


@pytest.mark.parametrize("kind", WRONG_SQUARES)
def test_the_advice_suits_networks_for_pictures_with_height_and_width(kind):
    shape, message = WRONG_SQUARES[kind]
    gan = small(network(5, layers.Dense(48, "sigmoid"), layers.Reshape((4, 4, 3))), SQUARE)
    with pytest.raises(ValueError, match=message):
        gan.fit(np.zeros(shape))


def test_rows_for_pictures_whose_colours_come_first_are_not_scrambled():
    with pytest.raises(ValueError, match=r"images.transpose\(0, 2, 3, 1\).reshape\(len\(images\), 3072\)"):
        GAN(build_generator(pixels=3072, hidden=2), build_discriminator(pixels=3072, hidden=2)).fit(
            COLOURED.transpose(0, 3, 1, 2))


def test_a_discriminator_for_pictures_of_any_size_gets_those_that_the_generator_can_draw():
    of_any_size = [keras.Input((None, None, 1)), layers.GlobalAveragePooling2D(), layers.Dense(1)]
    gan = small(network(5, layers.Dense(16, "sigmoid"), layers.Reshape((4, 4, 1))), keras.Sequential(of_any_size))
    with pytest.raises(ValueError, match=r"\[9, 5, 5, 1\], expected \[n, 4, 4, 1\]"):
        gan.fit(np.zeros((9, 5, 5, 1)))


# -- what acts in training only ---------------------------------------------------------------------------------

def test_batch_normalization_learns_its_statistics(images):
    generator = network(5, layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), layers.Dense(16, "sigmoid"))
    gan = small(generator)
    before = gan.generate(3)
    trained(gan, images, 50)
    mean, variance = (v.numpy() for v in generator.layers[1].non_trainable_variables)
    assert mean.any() and np.abs(variance - 1).max() > 0.1
    assert not np.allclose(before, gan.generate(3)) and np.array_equal(gan.generate(3), gan.generate(3))


def test_dropout_drops_while_training_and_not_afterwards(images):
    def loss(rate):
        discriminator = network(16, layers.Dropout(rate, seed=1), layers.Dense(1, kernel_initializer="ones"))
        return trained(small(discriminator=discriminator), images, 5)["d_loss"]

    assert loss(0.0) != loss(0.9) and loss(0.9) == loss(0.9)


def test_each_alternation_and_each_seed_drops_something_else(images):
    def drawn(seed, alternation):
        gan = GAN(*tiny_networks()[:1], network(16, layers.Dropout(0.5), layers.Dense(1)), seed=seed)
        gan._seed_the_layers(alternation)
        return gan.discriminator.layers[0](np.ones((1, 64), np.float32), training=True).numpy().tobytes()

    assert len({drawn(seed, alternation) for seed in (0, 1) for alternation in (0, 1, 2)}) == 6


def test_spectral_normalization_normalises(images):
    discriminator = network(16, layers.SpectralNormalization(layers.Dense(8)), layers.ReLU(), layers.Dense(1))
    trained(small(discriminator=discriminator), images, 200)
    assert abs(np.linalg.norm(discriminator.layers[0].layer.kernel.numpy(), 2) - 1) < 0.1


def test_regularisers_shrink_and_are_counted_once_a_step(images):
    def after(strength):
        # A discriminator that says 0 of everything, so that nothing but the regulariser moves it.
        discriminator = network(16, layers.Dense(4, kernel_initializer="ones",
                                                 kernel_regularizer=keras.regularizers.L2(strength)),
                                layers.Dense(1, kernel_initializer="zeros", trainable=False))
        loss = trained(small(discriminator=discriminator), images, 1)["d_loss"][0]
        return loss, discriminator.get_weights()[0]

    (plain, same_kernel), (regularised, kernel) = after(0.0), after(0.5)
    assert np.isclose(regularised - plain, 0.5 * 64, rtol=1e-4)
    assert np.allclose(same_kernel, 1) and np.allclose(kernel, 1 - 0.01 * 2 * 0.5)


def test_add_loss_counts_for_real_and_for_generated_data(images):
    class Pays(layers.Layer):
        def call(self, x):
            self.add_loss(7.0 * tf.ones([]))
            return x

    plain, paying = (trained(small(discriminator=network(16, *extra, layers.Dense(1, kernel_initializer="ones"))),
                             images, 1)["d_loss"][0] for extra in ((), (Pays(),)))
    assert np.isclose(paying - plain, 14, atol=1e-3)


def test_an_average_of_weights_is_what_remains(images):
    def final(**options):
        gan = small(generator_optimizer=optimizers.SGD(1.0, **options))
        trained(gan, images, 30)
        return gan.generator.get_weights()[0]

    start = tiny_networks()[0].get_weights()[0]
    averaged, last = final(use_ema=True, ema_momentum=0.99), final()
    assert 0 < np.linalg.norm(averaged - start) < 0.7 * np.linalg.norm(last - start)


def test_clipping_and_schedules_do_what_they_do_in_keras(images):
    clipped = small(generator_optimizer=optimizers.SGD(1.0, global_clipnorm=1e-3))
    stopped = small(generator_optimizer=optimizers.SGD(optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.0])))
    start = clipped.generator.get_weights()
    trained(clipped, images, 1)
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(start, clipped.generator.get_weights())))
    assert np.isclose(moved, 1e-3, rtol=1e-2)
    trained(stopped, images, 5)
    after_five = stopped.generator.get_weights()
    trained(stopped, images, 5)
    assert same(after_five, stopped.generator.get_weights()) and not same(start, after_five)


# -- parts that do not fit ----------------------------------------------------------------------------------------

class OfOnesOwn(keras.Model):
    def __init__(self, end):
        super().__init__()
        self.dense = layers.Dense(16 if end == "sigmoid" else 1, end)

    def call(self, x):
        return self.dense(x)


def built(model, inputs):
    model(np.zeros((1, inputs), np.float32))
    return model


def test_a_model_of_ones_own_trains(images):
    gan = small(built(OfOnesOwn("sigmoid"), 5), built(OfOnesOwn(None), 16))
    assert gan.draws == (0, 1) and len(trained(gan, images, 3)["d_loss"]) == 1


@pytest.mark.parametrize("stack", [
    [layers.Dense(1, "sigmoid")], [layers.Dense(1), layers.Activation("sigmoid")], [layers.Dense(1, "tanh")],
    [layers.Dense(1, "sigmoid"), layers.Flatten(), layers.Reshape((1,))],
    [layers.Dense(1, "sigmoid"), layers.Rescaling(2.0)], [layers.Dense(1, "hard_sigmoid")],
    [layers.Dense(1, "relu")]])
def test_a_discriminator_that_ends_in_a_sigmoid_is_refused(stack):
    with pytest.raises(ValueError, match=r"ends in a (sigmoid|tanh|relu6?), expected a logit.*Dense\(1\) and no act"):
        GAN(tiny_networks()[0], network(16, layers.Dense(8, "relu"), *stack))


def test_a_model_of_ones_own_that_ends_in_a_sigmoid_is_refused_too():
    class Squeezed(OfOnesOwn):
        def call(self, x):
            return keras.ops.sigmoid(self.dense(x))

    with pytest.raises(ValueError, match="ends in a sigmoid"):
        GAN(tiny_networks()[0], built(Squeezed(None), 16))


def with_inputs(*sizes):
    inputs = [keras.Input((size,)) for size in sizes]
    return keras.Model(inputs, layers.Dense(16)(layers.Concatenate()(inputs)))


BAD_PARTS = {
    "unbuilt": (lambda: (keras.Sequential([layers.Dense(16)]), None), r"Start it with keras.Input"),
    "of one's own, unbuilt": (lambda: (OfOnesOwn("sigmoid"), None), "call a model of your own once"),
    "a pair in one": (lambda: (tiny_networks(), None), r"generator is a tuple of 2, .*GAN\(\*pair\)"),
    "the other way round": (lambda: tiny_networks()[::-1], "the other way round"),
    "three inputs": (lambda: (with_inputs(5, 3, 3), None), "has 3 inputs, expected one"),
    "two outputs": (lambda: (None, keras.Model(x := keras.Input((16,)), [layers.Dense(1)(x), layers.Dense(9)(x)])),
                    "returns a list of 2, expected one tensor: give it one output"),
    "an unknown shape": (lambda: (network(5, layers.Dense(16), layers.Lambda(
        lambda x: tf.numpy_function(np.copy, [x], tf.float32))), None), "draws something of unknown shape"),
    "a function": (lambda: (lambda z: z, None), "generator is <function .*expected a Keras model"),
    "of other sizes": (lambda: (network(5, layers.Dense(9)), None), r"draws \(None, 9\).*reads \(None, 16\).*the same"),
    "a logit for each place": (lambda: (network(5, layers.Dense(16), layers.Reshape((4, 4, 1))),
                                        keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(1, 3, 2)])),
                               r"returns \(None, 1, 1, 1\), expected one logit.*Flatten\(\)"),
    "two logits": (lambda: (None, network(16, layers.Dense(2))), r"returns \(None, 2\), expected one logit"),
    "a rounded picture": (lambda: (network(5, layers.Dense(16), layers.Lambda(tf.round)), None),
                          "no gradient with respect to any weight of the generator"),
    "labels for one alone": (lambda: (with_inputs(5, 3), None),
                             "The generator takes labels, the discriminator does not"),
    "a shared layer": (lambda: (network(16, shared := layers.Dense(16)), network(16, shared, layers.Dense(1))),
                       "share a layer"),
}


@pytest.mark.parametrize("kind", BAD_PARTS)
def test_networks_that_do_not_fit_are_named_when_they_come_together(kind):
    make, message = BAD_PARTS[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        GAN(*(part or default for part, default in zip(make(), tiny_networks())))


BAD_SETTINGS = {
    "no such loss": ({"loss": "logarithm"}, "no loss 'logarithm'.*'log', 'logistic', 'minimax'"),
    "a list": ({"loss": ["log"]}, r"no loss \['log'\]"),
    "per picture": ({"loss": Loss("mine", LOSSES["hinge"].discriminator, lambda fake: tf.nn.softplus(-fake))},
                    r"generator of the loss 'mine' returns \[4, 1\].*tf.reduce_mean"),
    "no gradient": ({"loss": Loss("mine", LOSSES["hinge"].discriminator, lambda fake: tf.reduce_mean(tf.round(fake)))},
                    "no gradient with respect to D's logits"),
    "too many arguments": ({"loss": Loss("mine", LOSSES["hinge"].discriminator, lambda real, fake: fake)},
                           r"generator of the loss 'mine' fails .*missing 1 .*with relativistic=True"),
    "no function": ({"loss": Loss("mine", "hinge", LOSSES["hinge"].generator)},
                    r"discriminator of the loss 'mine' fails .*Expected: a function discriminator\(real_logits, fake"),
    "negative": ({"r1": -1.0}, "r1 is -1.0, expected a number of at least 0"),
    "no number": ({"r2": "much"}, "r2 is 'much', expected"),
    "no steps": ({"discriminator_steps": 0}, "discriminator_steps is 0, expected a whole number of at least 1"),
    "no such optimiser": ({"generator_optimizer": "adamm"}, "generator_optimizer is 'adamm', expected .* 'adam' or"),
    "no optimiser": ({"generator_optimizer": 0.001}, "generator_optimizer is 0.001, expected an optimiser of Keras"),
    "jit": ({"jit_compile": "fast"}, "jit_compile is 'fast', expected True, False or 'auto'"),
}


@pytest.mark.parametrize("kind", BAD_SETTINGS)
def test_wrong_settings_are_named_and_change_nothing(kind):
    settings, message = BAD_SETTINGS[kind]
    gan = tiny_gan(loss="hinge")
    before = gan.loss, gan.r1, gan.r2, gan.discriminator_steps, gan.generator_optimizer
    with pytest.raises((ValueError, TypeError), match=message):
        gan.compile(**({"r1": 0.5} | settings))
    assert before == (gan.loss, gan.r1, gan.r2, gan.discriminator_steps, gan.generator_optimizer)


def test_an_optimiser_by_name_is_made_as_keras_makes_it(images):
    gan = small(generator_optimizer="rmsprop")
    assert isinstance(gan.generator_optimizer, optimizers.RMSprop)


def test_an_optimiser_for_two_networks_or_of_another_one_is_refused(images):
    adam = optimizers.Adam()
    with pytest.raises(ValueError, match="are one object, expected two"):
        tiny_gan(generator_optimizer=adam, discriminator_optimizer=adam)
    with pytest.raises(ValueError, match="belongs to other weights"):
        tiny_gan(generator_optimizer=tiny_gan().generator_optimizer)


# -- data that cannot be drawn, or are no data --------------------------------------------------------------------

BAD_RANGES = {
    "sigmoid, 0 to 255": ("sigmoid", 0, 255, "Divide them by 255"),
    "sigmoid, -1 to 1": ("sigmoid", -1, 1, r"\(images \+ 1\) / 2, or let the generator end in a tanh"),
    "sigmoid, 0 to 16": ("sigmoid", 0, 16, "16 for scikit-learn's digits"),
    "tanh, 0 to 255": ("tanh", 0, 255, "Divide them by 127.5 and subtract 1"),
    "relu, -1 to 1": ("relu", -1, 1, ""),
}


@pytest.mark.parametrize("stack", [[], [layers.Reshape((4, 4)), layers.Flatten()]], ids=["", "reshaped"])
@pytest.mark.parametrize("kind", BAD_RANGES)
def test_data_outside_what_the_generator_draws_get_the_cure(images, kind, stack):
    end, low, high, cure = BAD_RANGES[kind]
    data = low + (high - low) * np.clip(images, 0, 1)
    with pytest.raises(ValueError, match=f"images hold values from .* ends in a {end} .*{cure}"):
        small(network(5, layers.Dense(16, end), *stack)).fit(data)


@pytest.mark.parametrize(("stack", "draws"), [
    ([layers.Dense(16, "tanh"), layers.Rescaling(0.5, 0.5)], (0, 1)),
    ([layers.Dense(16, "sigmoid"), layers.Rescaling(-255.0)], (-255, 0)),
    ([layers.Dense(16, "hard_sigmoid")], (0, 1)), ([layers.Dense(16), layers.ReLU(3.0)], (0, 3)),
    ([layers.Dense(20, "tanh"), layers.Reshape((5, 4)), layers.Cropping1D((0, 1)), layers.Flatten()], (-1, 1)),
    ([layers.Dense(16, "relu")], (0, np.inf)), ([layers.Dense(16)], None), ([layers.Dense(16, "swish")], None)])
def test_what_a_generator_can_draw_is_seen_through_arithmetic_and_what_only_reshapes(stack, draws):
    assert GAN(network(5, *stack), tiny_networks()[1]).draws == draws


def test_half_of_what_a_tanh_draws_gets_a_warning(images):
    with pytest.warns(UserWarning, match=r"ends in a tanh and draws from -1 to 1.*2 \* images - 1"):
        trained(small(network(5, layers.Dense(16, "tanh"))), np.clip(images, 0, 1), 1)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("copies", [1, 300])  # 300: so many that they are looked at once only
def test_numbers_that_are_none_are_named(images, number, copies):
    spoilt = np.tile(images, (copies, 1))
    spoilt[5, 3] = number
    with pytest.raises(ValueError, match="NaN .not a number. or infinity"):
        tiny_gan().fit(spoilt)


def test_an_array_that_was_changed_in_place_is_not_the_one_that_was_seen_before(images):
    data, gan = np.tile(images, (300, 1)), tiny_gan()
    trained(gan, data, 1)
    assert gan._pair.checked(data) is gan._pair.checked(data)
    data *= 255
    with pytest.raises(ValueError, match="Divide them by 255"):
        trained(gan, data, 1)


def test_a_variable_is_read_anew_in_each_fit(images):
    gan = tiny_gan(jit_compile=False)
    for data in images, np.tile(images, (300, 1)):  # small and large
        data = tf.Variable(data)
        trained(gan, data, 1)
        data.assign(255 * data)
        with pytest.raises(ValueError, match="Divide them by 255"):
            trained(gan, data, 1)


def test_data_need_not_be_pixels_where_the_generator_draws_other_numbers():
    generator, discriminator = network(1, layers.Dense(4, "tanh"), layers.Dense(1)), network(1, layers.Dense(1))
    gan = small(generator, discriminator)
    trained(gan, np.full((20, 1), 7.0), 3)
    assert gan.alternations == 3 and gan.draws is None


NO_ARRAYS = {
    "Digits": (lambda x: gan_lib.Digits(x, x, x, x, ""), r"images are Digits.*digits.train_images"),
    "a pair": (lambda x: (x, np.zeros(300)), r"images are tuple.*fit\(images, labels\)"),
    "a generator": (lambda x: (part for part in x), r"np.concatenate\(list\(batches\)\)"),
    "a path": (lambda x: "pictures/", r"load_images\(folder\)"),
    "nothing": (lambda x: None, "expected an array or a tf.data.Dataset"),
    "unequal sizes": (lambda x: [np.zeros((28, 28)), np.zeros((30, 28))], "of unequal size"),
    "words": (lambda x: x.astype(str), "hold <U.*, expected float32"),
    "words in a tensor": (lambda x: tf.constant([["a"] * 16]), "hold .*string.*, expected float32"),
    "pictures and labels": (lambda x: [x, x[:, 0]], r"of unequal size.*fit\(images, labels\)"),
    "minibatches": (lambda x: [x[:100], x[100:200], x[200:290]], r"of unequal size.*np.concatenate\(images\)"),
    "names of files": (lambda x: ["a.png", "b.png"], r"images are str in a list.*load_images\(folder\)"),
    "a dictionary": (lambda x: {"x_train": x}, r"images are dict.*images\[key\]"),
    "a loader": (lambda x: Loader(), r"images are Loader.*np.concatenate\(list\(batches\)\)"),
    "sparse": (lambda x: scipy.sparse.csr_matrix(x), r"images are csr_matrix.*images.toarray\(\)"),
    "ragged": (lambda x: tf.ragged.constant([[1.0], [2.0, 3.0]]), "images are RaggedTensor, expected one array"),
    "objects": (lambda x: np.array([x[0], None], dtype=object), r"hold Python objects \(ndarray\), expected float32"),
    "no data yet": (lambda x: keras.Input((16,)), "images are KerasTensor, expected one array"),
}


class Loader:
    """A source of minibatches, as other libraries have them."""

    def __iter__(self):
        return iter([np.zeros((4, 16))])


@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_what_is_no_array_is_named_with_the_cure(images, kind):
    spoil, message = NO_ARRAYS[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        tiny_gan().fit(spoil(images))


def batches(x, *more):
    return tf.data.Dataset.from_tensor_slices((x, *more) if more else x)


BAD_DATASETS = {
    "not batched": (lambda x: batches(x), r"gives the shape \[16\], expected \[None, 16\]. Put minibatches together"),
    "of other sizes": (lambda x: batches(x[:, :9]).batch(5), r"gives the shape \[None, 9\], expected \[None, 16\]"),
    "of other values": (lambda x: batches(255 * x).batch(5), "Divide them by 255"),
    "of words": (lambda x: tf.data.Dataset.from_tensors(["a.png"]), "gives string, expected numbers.*load_images"),
    "of dictionaries": (lambda x: tf.data.Dataset.from_tensor_slices({"label": x[:, 0], "image": x}).batch(5),
                        r"dataset.map\(lambda part: part\['image'\]\)"),
    "of three": (lambda x: batches(x, x, x).batch(5), "expected minibatches x, or pairs"),
    "with labels": (lambda x: batches(x, x[:, 0]).batch(5), r"this pair is not conditional.*dataset.map\(lambda"),
    "empty": (lambda x: batches(x).batch(1000, drop_remainder=True), "gives no minibatch at all"),
    "endless": (lambda x: batches(x).batch(5).repeat(), "repeats for ever.*Pass steps_per_epoch"),
}


@pytest.mark.parametrize("kind", BAD_DATASETS)
def test_a_dataset_that_does_not_fit_is_named_with_the_cure(images, kind):
    make, message = BAD_DATASETS[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        tiny_gan().fit(make(images))
    with pytest.raises(ValueError, match="y was passed beside a Dataset"):
        tiny_gan().fit(batches(images).batch(5), images[:, 0])


def test_a_dataset_of_pictures_each_in_a_tuple_is_taken_as_keras_takes_it(images):
    alone, wrapped = tiny_gan(jit_compile=False), tiny_gan(jit_compile=False)
    alone.fit(batches(images).batch(50), verbose=0)
    wrapped.fit(tf.data.Dataset.from_tensor_slices((images,)).batch(50), verbose=0)
    assert wrapped.alternations == 6 and same(alone.get_weights(), wrapped.get_weights())


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda x: x * np.nan, "NaN .not a number. or infinity"), (lambda x: 255 * x, "values from .*Divide them by 255")])
def test_a_later_minibatch_of_a_dataset_is_looked_at_too(images, spoil, message):
    data, gan = np.concatenate([images[:40], spoil(images[40:50])]), tiny_gan(jit_compile=False)
    with pytest.raises(ValueError, match=f"images of minibatch 5 of the Dataset hold {message}"):
        gan.fit(batches(data).batch(10), verbose=0)
    assert gan.alternations == 4 and all(np.isfinite(weight).all() for weight in gan.get_weights())


# -- conditional pairs --------------------------------------------------------------------------------------------

def conditional(label_shape=()):
    def pair(inputs, *stack):
        data, labels = keras.Input((inputs,)), keras.Input(label_shape, dtype="int32")
        x = layers.Concatenate()([data, layers.Flatten()(layers.Embedding(2, 3)(labels))])
        for layer in stack:
            x = layer(x)
        return keras.Model([data, labels], x)

    return small(pair(5, layers.Dense(16, "sigmoid")), pair(16, layers.Dense(32, "relu"), layers.Dense(1)),
                 generator_optimizer=optimizers.Adam(0.005, 0.5), discriminator_optimizer=optimizers.Adam(0.005, 0.5),
                 r1=1.0)


@pytest.mark.parametrize(("label_shape", "seed"), [((), 0), ((1,), 1), ((), 2)])
def test_a_conditional_pair_learns_which_kind_is_asked_for(images, label_shape, seed):
    keras.utils.set_random_seed(seed)
    labels, gan = (images[:, 0] > 0.5).astype(int), conditional(label_shape)
    gan.fit(images, labels, batch_size=64, steps_per_epoch=1000, verbose=0)
    for kind in 0, 1:
        real, drawn = images[labels == kind].mean(axis=0), gan.generate(200, labels=kind).mean(axis=0)
        assert np.abs(drawn - real).mean() < 0.25
    assert np.array_equal(gan.generate(2, labels=[0, 1])[1], gan.generate(2, labels=[1, 1])[1])
    gan.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(50), verbose=0)
    assert gan.alternations == 1006


def test_labels_that_are_missing_too_many_or_not_wanted_are_named(images):
    labels = np.zeros(300, int)
    with pytest.raises(ValueError, match="This pair is conditional"):
        conditional().fit(images)
    with pytest.raises(ValueError, match=r"labels have the shape \[299\], expected \[300\]"):
        conditional().fit(images, labels[1:])
    with pytest.raises(ValueError, match="this pair is not conditional"):
        tiny_gan().fit(images, labels)
    with pytest.raises(ValueError, match="This pair is conditional"):
        conditional().generate(3)


BAD_LABELS = {
    "too large": (lambda y: y + 1, "labels run from 1 to 2, expected 0 to 1: .* Embedding of 2 rows"),
    "negative": (lambda y: y - 1, "labels run from -1 to 0, expected 0 to 1"),
    "broken": (lambda y: y + 0.5, r"labels hold [01].5, expected whole numbers"),
    "NaN": (lambda y: y * np.nan, "labels hold nan, expected whole numbers"),
    "words": (lambda y: y.astype(str), "labels hold <U.*, expected numbers. Number them: np.unique"),
    "one-hot": (lambda y: np.eye(2)[y], r"labels have the shape \[300, 2\].*labels.argmax\(axis=1\)"),
    "one for all": (lambda y: 1, r"labels have the shape \[\], expected \[300\]"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels_that_the_networks_cannot_look_up_are_named(images, kind):
    spoil, message = BAD_LABELS[kind]
    gan, labels = conditional(), np.arange(300) % 2
    with pytest.raises((ValueError, TypeError), match=message):
        gan.fit(images, spoil(labels))
    assert gan.alternations == 0
    with pytest.raises(ValueError, match="labels run from 2 to 2"):
        gan.generate(3, labels=2)


# -- assignments that a compiled loop would not notice --------------------------------------------------------------

def moves(gan, part, images):
    before = getattr(gan, part).get_weights()
    trained(gan, images, 5)
    return not same(before, getattr(gan, part).get_weights())


CHANGES = {  # what is done after a first training -> which network it stops
    "a new optimiser of rate 0": (lambda gan: setattr(gan, "discriminator_optimizer", optimizers.SGD(0.0)),
                                  "discriminator"),
    "a rate of 0": (lambda gan: setattr(gan.generator_optimizer, "learning_rate", 0.0), "generator"),
    "a schedule of rate 0": (lambda gan: setattr(gan.generator_optimizer, "learning_rate",
                                                 optimizers.schedules.ExponentialDecay(0.0, 10, 0.5)), "generator"),
    "frozen": (lambda gan: setattr(gan.discriminator, "trainable", False), "discriminator"),
    "frozen layers": (lambda gan: [setattr(layer, "trainable", False) for layer in gan.generator.layers], "generator"),
    "clipping": (lambda gan: setattr(gan.generator_optimizer, "clipnorm", 1e-30), "generator"),
    "clipping by a number of NumPy": (lambda gan: setattr(gan.generator_optimizer, "clipnorm", np.float32(1e-30)),
                                      "generator"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_takes_effect_in_the_next_fit(images, kind):
    change, part = CHANGES[kind]
    gan = small()
    assert moves(gan, part, images)
    change(gan)
    assert not moves(gan, part, images) and gan.alternations == 10


def test_layers_unfrozen_after_compile_need_a_new_optimiser_and_then_train(images):
    gan = small()
    gan.discriminator.layers[0].trainable = False
    gan.compile(discriminator_optimizer=optimizers.SGD(0.01))
    frozen = gan.discriminator.get_weights()[0]
    assert moves(gan, "discriminator", images) and np.array_equal(frozen, gan.discriminator.get_weights()[0])
    gan.discriminator.layers[0].trainable = True
    with pytest.raises(ValueError, match="discriminator_optimizer belongs to other weights.*while layers .* frozen"):
        trained(gan, images, 1)
    gan.compile(discriminator_optimizer=optimizers.SGD(0.01))
    trained(gan, images, 5)
    assert not np.array_equal(frozen, gan.discriminator.get_weights()[0])


@pytest.mark.parametrize("kind", [float, np.float32])
def test_a_rate_of_dropout_takes_effect_in_the_next_fit(images, kind):
    gan = small(discriminator=network(16, layers.Dropout(kind(0.1)), layers.Dense(1, kernel_initializer="ones")),
                discriminator_optimizer=optimizers.SGD(0.0), generator_optimizer=optimizers.SGD(0.0))
    before = trained(gan, images, 200)["d_loss"][0]
    gan.discriminator.layers[0].rate = kind(0.9)
    assert abs(trained(gan, images, 200)["d_loss"][0] - before) > 0.1


class Scaled(layers.Layer):
    """A layer of one's own with a setting of its own: what it multiplies by."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def call(self, x):
        return self.by(x) if callable(self.by) else x * (self.by[0] if isinstance(self.by, list) else self.by)


@pytest.mark.parametrize("kind", [np.float32, lambda by: np.full(16, by, np.float32), lambda by: [by],
                                  lambda by: lambda x: by * x])
def test_a_setting_of_a_layer_of_ones_own_takes_effect_in_the_next_fit(images, kind):
    gan = small(discriminator=network(16, Scaled(kind(1.0)), layers.Dense(1, use_bias=False)), jit_compile=False)
    assert moves(gan, "discriminator", images)
    trained(gan, images, 1)
    assert len(gan._pair.loops) == 1
    gan.discriminator.layers[0].by = kind(0.0)
    assert not moves(gan, "discriminator", images)


def test_a_regulariser_made_stronger_takes_effect_in_the_next_fit(images):
    discriminator = network(16, layers.Dense(1, kernel_initializer="ones", kernel_regularizer="l2"))
    gan = small(discriminator=discriminator, jit_compile=False, discriminator_optimizer=optimizers.SGD(0.0))
    before = trained(gan, images, 1)["d_loss"][0]
    discriminator.layers[0].kernel_regularizer.l2 += 10
    assert trained(gan, images, 1)["d_loss"][0] > before + 100


@pytest.mark.parametrize("change", [lambda gan: gan.discriminator.pop(),
                                    lambda gan: gan.generator.add(layers.Dense(16, "sigmoid"))])
def test_layers_added_or_taken_away_need_a_new_gan(images, change):
    gan = tiny_gan()
    change(gan)
    with pytest.raises(ValueError, match="Layers of the network .* have been added or taken away .*Make a new one"):
        trained(gan, images, 1)


def test_what_cannot_be_set_says_so():
    gan = tiny_gan()
    for name in "alternations", "state", "draws", "discriminator_step", "generate":
        with pytest.raises(AttributeError, match=f"gan.{name} cannot be set. What can be: loss, .*discriminator_steps"):
            setattr(gan, name, 2)
    with pytest.raises(AttributeError, match="two optimisers: gan.generator_optimizer"):
        gan.learning_rate = 0.1


def test_what_cannot_be_replaced_says_so_and_stays(images):
    gan = tiny_gan()
    generator, weights = gan.generator, len(gan.weights)
    for name, value in ("generator", tiny_networks()[0]), ("discriminator", tiny_networks()[1]), ("seed", 3):
        with pytest.raises(AttributeError, match=f"gan.{name} cannot be replaced.*Make a new GAN"):
            setattr(gan, name, value)
    with pytest.raises(AttributeError, match="two optimisers: gan.generator_optimizer"):
        gan.optimizer = optimizers.Adam()
    with pytest.raises(ValueError, match="gan.loss cannot be None"):
        gan.loss = None
    assert gan.generator is generator and len(gan.weights) == weights


def test_a_new_optimiser_neither_rewinds_the_noise_nor_the_count(images):
    gan = tiny_gan()
    trained(gan, images, 5)
    seen = gan.minibatches(images, 16, gan.alternations)[0]
    gan.compile(generator_optimizer=optimizers.RMSprop(1e-4), discriminator_optimizer=optimizers.RMSprop(1e-4))
    assert gan.alternations == 5 and np.array_equal(seen, gan.minibatches(images, 16, gan.alternations)[0])
    trained(gan, images, 5)
    assert gan.alternations == 10


# -- global settings of Keras and TensorFlow ------------------------------------------------------------------------

GLOBAL_SETTINGS = {
    "mixed_float16": "keras.mixed_precision.set_global_policy('mixed_float16')",
    "mixed_bfloat16": "keras.mixed_precision.set_global_policy('mixed_bfloat16')",
    "float64": "keras.backend.set_floatx('float64')",
    "run_functions_eagerly": "tf.config.run_functions_eagerly(True)",
    "check_numerics": "tf.debugging.enable_check_numerics()",
}


def test_training_works_under_every_global_setting():
    program = ["import keras, numpy as np, tensorflow as tf"]
    for setting in GLOBAL_SETTINGS.values():
        program += [setting, "gan = tiny_gan(r1=0.1)",
                    "print(gan.alternations, np.isfinite(trained(gan, two_kinds(), 3)['d_loss']).all(), "
                    "gan.alternations, gan.generate(2).dtype)",
                    "tf.config.run_functions_eagerly(False); keras.mixed_precision.set_global_policy('float32'); "
                    "keras.backend.set_floatx('float32')"]
    lines = [line for line in in_another_process("\n".join(program)).splitlines() if line[0].isdigit()]
    assert lines == ["0 True 3 float32"] * len(GLOBAL_SETTINGS)


def test_what_turns_tensorflow_2_off_is_named():
    printed = in_another_process("""
import tensorflow as tf
tf.compat.v1.disable_v2_behavior()
try: gan_lib.GAN()
except RuntimeError as error: print(error)
""")
    assert "eager execution is off" in printed and "leave that call out" in printed


def test_another_backend_is_refused_when_gan_lib_is_imported():
    printed = in_another_process("""
import importlib, keras, sys
keras.backend.backend = lambda: "jax"
del sys.modules["gan_lib"]
try: importlib.import_module("gan_lib")
except ImportError as error: print(error)
""")
    assert "Keras runs on 'jax' here" in printed and "KERAS_BACKEND" in printed


@pytest.mark.parametrize("first", ["", "import tensorflow"])
def test_importing_changes_as_little_as_it_can(first, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")  # the tests' own import has set it
    program = f"""
import os, signal
{first}
before, handler = dict(os.environ), signal.getsignal(signal.SIGINT)
import gan_lib
print(sorted(set(os.environ.items()) - set(before.items())), signal.getsignal(signal.SIGINT) is handler)
gan = gan_lib.GAN()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    changed, same_handler = run.stdout.strip().split("] ")
    assert set(re.findall(r"\('(\w+)'", changed)) <= {"TF_CPP_MIN_LOG_LEVEL"} and same_handler == "True"


@pytest.mark.parametrize(("penalty", "returns"), [(gan_lib.squared_gradient, r"\[16\]"), (lambda a, x: None, "None")])
def test_a_penalty_that_is_no_number_is_named(images, penalty, returns):
    mine = Loss("mine", LOSSES["hinge"].discriminator, LOSSES["hinge"].generator,
                penalty=lambda a, x, fake, between: penalty(a, x))
    with pytest.raises(ValueError, match=rf"penalty of the loss 'mine' returns {returns}, expected one number"):
        trained(tiny_gan(loss=mine), images, 1)


def test_callbacks_for_one_optimiser_get_the_cure(images):
    with pytest.raises(ValueError, match="LearningRateScheduler changes .* a GAN has two. Let a LambdaCallback"):
        trained(tiny_gan(), images, 1, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)])


def test_a_callback_that_assigns_does_not_undo_one_that_stops(images):
    gan = tiny_gan()
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(gan, "stop_training", True)),
                 keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(gan, "r1", 0.1))]
    assert len(trained(gan, images, 1, epochs=3, callbacks=callbacks)["d_loss"]) == 1
