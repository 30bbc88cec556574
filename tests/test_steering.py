"""What notebook 09 rests on: labels are obeyed or refused, the gradient through G is right, known pixels are kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from notebook_parts import definitions

import gan_lib

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def names():
    return definitions(9, "conditional", "conditional_dcgan", "losses_of", "search", "paste", "blend", "error",
                       "stroke")


@pytest.fixture(scope="module")
def gan(names):
    """A conditional pair for pictures of 8x8 pixels, whose networks have a slope everywhere."""
    def pictures(network):
        x, label = keras.Input(SHAPE), keras.Input((), dtype="int32")
        return keras.Model([x, label], network([keras.layers.Flatten()(x), label]))

    smooth = {"activation": "tanh", "kernel_initializer": keras.initializers.GlorotNormal(1)}
    generator = keras.Sequential([
        keras.Input((15,)), keras.layers.Dense(20, **smooth), keras.layers.Dense(64, "sigmoid"),
        keras.layers.Reshape(SHAPE)])
    discriminator = keras.Sequential([
        keras.Input((74,)), keras.layers.Dense(20, **smooth), keras.layers.Dense(1)])
    return gan_lib.GAN(names["conditional"](generator, 5), pictures(names["conditional"](discriminator, 64)))


@pytest.fixture
def case():
    """Six pictures, a mask, noise and labels."""
    rng = np.random.default_rng(0)
    y = rng.uniform(2, 3, (6, *SHAPE)).astype(np.float32)  # G stays below: no corner of |x| is near
    mask = (rng.random((6, *SHAPE)) < 0.6).astype(np.float32)
    return y, mask, rng.uniform(-0.8, 0.8, (6, 5)).astype(np.float32), np.arange(6, dtype=np.int32)


# -- the search ---------------------------------------------------------------------------------------------------


def test_the_gradient_through_both_networks_is_that_of_finite_differences(names, gan, case):
    y, mask, z, labels = map(tf.constant, case)
    rng, step = np.random.default_rng(1), 1e-2

    def loss(z):
        contextual, perceptual = names["losses_of"](gan, z, labels, y, mask)
        return contextual + 5 * perceptual

    with tf.GradientTape() as tape:
        tape.watch(z)
        value = loss(z)
    gradient = tape.gradient(value, z).numpy()
    for _ in range(5):
        way = rng.normal(size=z.shape).astype(np.float32)
        slope = (loss(z + step * way) - loss(z - step * way)).numpy() / (2 * step)
        assert np.allclose(slope, (gradient * way).sum(axis=1), rtol=0.02, atol=0.02)


def test_both_losses_are_those_of_their_formulas(names, gan, case):
    y, mask, z, labels = map(tf.constant, case)
    contextual, perceptual = names["losses_of"](gan, z, labels, y, mask)
    picture = gan.generator([z, labels])
    D = 1 / (1 + np.exp(-gan.discriminator([picture, labels]).numpy()[:, 0]))
    by_hand = [sum(abs(a - b) for a, b, m in zip(*map(np.ravel, row)) if m)
               for row in zip(*(np.array(part) for part in (picture, y, mask)))]
    assert np.allclose(contextual, by_hand, rtol=1e-4) and np.allclose(perceptual, -np.log(D), rtol=1e-4)


def test_pictures_side_by_side_do_not_disturb_each_other(names, gan, case):
    y, mask, z, labels = case
    found, way = names["search"](gan, z, labels, y, mask, steps=20)
    assert way.shape == (20, 2, 6)
    for i in 0, 4:
        alone, its_way = names["search"](gan, z[[i]], labels[[i]], y[[i]], mask[[i]], steps=20)
        assert np.allclose(alone, found[[i]], atol=1e-3) and np.allclose(its_way[:, :, 0], way[:, :, i], rtol=1e-3)


def test_it_finds_back_what_the_generator_has_drawn_and_stays_in_the_prior(names, gan, case):
    _, mask, z, labels = case
    y = gan.generator([z, labels]).numpy()
    start = np.clip(z + np.random.default_rng(2).normal(0, 0.3, z.shape), -1, 1).astype(np.float32)
    found, way = names["search"](gan, start, labels, y, mask, weight=0, steps=200)
    assert np.all(way[-1, 0] < 0.3 * way[0, 0]) and np.abs(found).max() <= 1


def test_where_nothing_is_known_only_the_discriminator_decides(names, gan, case):
    y, mask, z, labels = case
    nothing = np.zeros_like(mask)
    assert np.array_equal(names["search"](gan, z, labels, y, nothing, weight=0, steps=5)[0], z)
    _, way = names["search"](gan, z, labels, y, nothing, weight=1, steps=50)
    assert not way[:, 0].any() and np.all(way[-1, 1] < way[0, 1])


# -- masks, pasting, blending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["paste", "blend"])
def test_known_pixels_are_kept_exactly_and_hidden_ones_never_read(names, method):
    rng = np.random.default_rng(3)
    y, fill = rng.random((2, 4, 28, 28, 1), dtype=np.float32)
    mask = (rng.random((28, 28, 1)) < 0.5).astype(np.float32)
    done = names[method](y, fill, mask)
    known = np.broadcast_to(mask == 1, y.shape)
    assert np.array_equal(done[known], y[known]) and 0 <= done.min() <= done.max() <= 1
    other = np.where(known, y, rng.random(y.shape, dtype=np.float32))
    assert np.array_equal(names[method](other, fill, mask), done)


@pytest.mark.parametrize("method", ["paste", "blend"])
def test_a_mask_of_all_gives_the_picture_and_a_mask_of_none_the_fill(names, method):
    y, fill = np.random.default_rng(4).random((2, 3, 28, 28, 1), dtype=np.float32)
    assert np.array_equal(names[method](y, fill, np.ones((28, 28, 1))), y)
    assert np.array_equal(names[method](y, fill, np.zeros((28, 28, 1))), fill)


def test_blending_takes_out_what_makes_the_whole_fill_too_light_or_too_dark(names):
    y, mask = np.random.default_rng(5).uniform(0.3, 0.6, (2, 28, 28, 1)), np.ones((28, 28, 1))
    mask[8:14, 10:18] = 0
    assert np.allclose(names["blend"](y, y + 0.2, mask), y, atol=1e-3)
    assert names["error"](y + 0.2, y, mask) == pytest.approx(0.2)


def test_a_stroke_hides_a_band_of_its_width_where_it_was_put(names):
    flat, upright = names["stroke"](0, -6, 8)[..., 0], names["stroke"](90, 0, 4)[..., 0]
    assert np.all(flat == flat[:, :1]) and list(np.flatnonzero(flat[:, 0] == 0)) == list(range(4, 12))
    assert np.all(upright == upright[:1]) and list(np.flatnonzero(upright[0] == 0)) == [12, 13, 14, 15]


# -- labels ----------------------------------------------------------------------------------------------------------


BAD = {"too large": ([0, 1, 10], "labels run from 0 to 10, expected 0 to 9"),
       "negative": ([0, -1, 2], "labels run from -1 to 2, expected 0 to 9"),
       "too few": ([0, 1], r"labels have the shape \[2\], expected \[3\]"),
       "too many": ([0, 1, 2, 3], r"labels have the shape \[4\], expected \[3\]"),
       "none": (None, "This pair is conditional")}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("pair", ["rows", "sheets"])
def test_labels_out_of_range_or_of_the_wrong_length_are_refused(names, gan, pair, kind):
    if pair == "sheets":
        gan = gan_lib.GAN(*names["conditional_dcgan"]())
    labels, message = BAD[kind]
    with pytest.raises(ValueError, match=message):
        gan.fit(np.zeros((3, *gan._pair.data_shape[1:]), np.float32), labels)
    with pytest.raises(ValueError, match=message):
        gan.generate(3, labels=labels)
    assert gan.alternations == 0


def test_a_label_reaches_the_discriminator_through_its_sheet_alone(names):
    _, discriminator = names["conditional_dcgan"]()
    picture, labels = np.full((10, 28, 28, 1), 0.5, np.float32), np.arange(10)
    assert np.ptp(discriminator([picture, labels])) > 0
    (table,) = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Embedding)]
    table.set_weights([np.zeros((10, 784))])
    assert np.ptp(discriminator([picture, labels])) == 0


def test_the_share_that_obeys_is_right_on_planted_generators():
    names = definitions(9, "obeyed")
    pictures, labels = names["data"].test_images, names["data"].test_labels
    rng, half = np.random.default_rng(6), np.arange(len(labels)) % 2 == 0
    obedient, deaf = names["obeyed"](pictures, labels), names["obeyed"](pictures, rng.permutation(labels))
    assert obedient > 0.93 and abs(deaf - 0.1) < 0.06
    mixed = names["obeyed"](pictures, np.where(half, labels, (labels + 1) % 10))
    assert abs(mixed - obedient / 2) < 0.03
