"""The two networks and the noise: shapes, counts, ranges and distributions."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_networks
from scipy.stats import kstest

import gan_lib
from gan_lib import GAN, build_dcgan, build_discriminator, build_generator, sample_noise


def test_parameters_as_the_article_has_them():
    assert build_generator().count_params() == 114_064
    assert build_discriminator().count_params() == 100_609


def test_pixels_lie_between_0_and_1_and_logits_do_not():
    z = sample_noise(50)
    pixels = build_generator()(100 * z).numpy()
    logits = build_discriminator()(100 * np.random.default_rng(0).normal(size=(50, 784))).numpy()
    assert pixels.shape == (50, 784) and pixels.dtype == np.float32 and pixels.min() >= 0 and pixels.max() <= 1
    assert logits.shape == (50, 1) and logits.min() < -1 and logits.max() > 1


@pytest.mark.parametrize("seed", range(3))
def test_weights_start_with_the_spread_that_he_gives(seed):
    for network in build_generator(seed=seed), build_discriminator(seed=seed):
        for layer in network.layers:
            kernel, bias = layer.get_weights()
            expected = np.sqrt(2 / kernel.shape[0])
            assert abs(kernel.std() - expected) < 4 * expected / np.sqrt(2 * kernel.size)
            assert not bias.any()


def test_weights_depend_on_the_seed_and_no_two_layers_share_their_numbers():
    networks = [build(seed=seed) for seed in (0, 1) for build in (build_generator, build_discriminator)]
    kernels = [w.ravel()[:100] for network in networks for w in network.get_weights() if w.ndim == 2]
    directions = [kernel / np.linalg.norm(kernel) for kernel in kernels]
    overlap = np.array([[abs(a @ b) for a in directions] for b in directions]) - np.eye(len(kernels))
    assert overlap.max() < 0.5
    assert np.array_equal(build_generator(seed=3).get_weights()[0], build_generator(seed=3).get_weights()[0])


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_uniform_from_minus_1_to_1(seed):
    z = sample_noise(2000, dim=7, seed=seed)
    assert z.shape == (2000, 7) and z.dtype == np.float32 and z.min() >= -1 and z.max() < 1
    assert kstest(z.ravel(), "uniform", (-1, 2)).pvalue > 1e-4
    assert np.array_equal(z, sample_noise(2000, dim=7, seed=seed))
    assert not np.array_equal(z, sample_noise(2000, dim=7, seed=seed + 1))


def draw(seed, step, repeat, kind="uniform", shape=(200, 7), high=0):
    """What a GAN of this seed draws at this alternation."""
    return GAN(*tiny_networks(), seed=seed)._random(kind, list(shape), tf.constant(step), repeat, high).numpy()


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 0), (7, 12_345), (2**20 - 1, 10**9)])
def test_noise_in_training_is_uniform_too(seed, step):
    z = draw(seed, step, 0)
    assert z.shape == (200, 7) and z.min() >= -1 and z.max() < 1
    assert kstest(z.ravel(), "uniform", (-1, 2)).pvalue > 1e-4


def test_no_two_draws_of_training_are_alike():
    last = gan_lib._OF_THE_GENERATOR
    keys = [(step, repeat) for step in (0, 1, 2, 2**22, 2**31 - 1) for repeat in (0, 1, 2, 999, last - 1, last)]
    draws = set()
    for seed in (0, 1, 2, 2**20 - 1):
        gan = GAN(*tiny_networks(), seed=seed)
        draws |= {gan._random("uniform", [200, 7], step, repeat).numpy().tobytes() for step, repeat in keys}
    assert len(draws) == 4 * len(keys)


def test_the_same_numbers_are_drawn_under_xla_in_a_graph_and_step_by_step():
    gan = GAN(*tiny_networks(), seed=3)
    for kind in "uniform", "normal", "mix", "rows":
        def numbers(kind=kind):
            return gan._random(kind, [50], tf.constant(7), 2, 1000)
        for jit_compile in False, True:
            assert np.allclose(tf.function(numbers, jit_compile=jit_compile)(), numbers(), atol=1e-6)


def test_minibatches_reach_every_row():
    counts = np.bincount(draw(0, 3, 0, "rows", [2000], 50), minlength=50)
    assert counts.min() > 10 and counts.max() < 80


@pytest.mark.parametrize("seed", [-1, 1.5, "one", 2**20, True])
def test_a_wrong_seed_is_named(seed):
    with pytest.raises(ValueError, match="seed is .* expected a whole number from 0"):
        sample_noise(3, seed=seed)
    with pytest.raises(ValueError, match="seed is .* expected a whole number from 0"):
        build_generator(seed=seed)


@pytest.mark.parametrize(("n", "dim"), [(0, 3), (-1, 3), (2.5, 3), (3, 0)])
def test_a_wrong_count_is_named(n, dim):
    with pytest.raises(ValueError, match="expected a whole number of at least 1"):
        sample_noise(n, dim)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (30, 17, 1), (5, 64, 3)])
def test_a_dcgan_draws_and_reads_pictures_of_any_shape(shape):
    generator, discriminator = build_dcgan(shape, channels=4)
    pictures = generator(sample_noise(3))
    assert pictures.shape == (3, *shape) and 0 <= pictures.numpy().min() and pictures.numpy().max() <= 1
    assert discriminator(pictures).shape == (3, 1)
    assert GAN(generator, discriminator).draws == (0, 1)


def test_a_dcgan_keeps_the_papers_rules():
    networks = build_dcgan(seed=4)
    for network in networks:
        kinds = [type(layer).__name__ for layer in network.layers]
        assert "BatchNormalization" in kinds and not {"MaxPooling2D", "UpSampling2D"} & set(kinds)
        kernels = [w.numpy() for w in network.trainable_variables if w.path.endswith("kernel")]
        assert all(abs(kernel.std() - 0.02) < 0.002 for kernel in kernels)
    assert [type(layer).__name__ for layer in networks[0].layers][-1] == "Cropping2D"
    assert np.array_equal(networks[0].get_weights()[0], build_dcgan(seed=4)[0].get_weights()[0])
    assert not np.array_equal(networks[0].get_weights()[0], build_dcgan(seed=5)[0].get_weights()[0])


def batch_norm(x, layer, training):
    """(x - mean) / deviation * gamma + beta, from the minibatch in training, from the running averages otherwise."""
    gamma, beta, mean, variance = layer.get_weights()
    if training:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def transposed(x, kernel, bias=0):
    """Each number of x [n, h, w, c] stamps the kernel [5, 5, out, c] onto pictures twice as large, less the margin."""
    n, h, w, _ = x.shape
    large = np.zeros((n, 2 * h + 3, 2 * w + 3, kernel.shape[2]))
    for i, j in np.ndindex(h, w):
        large[:, 2 * i:2 * i + 5, 2 * j:2 * j + 5] += np.einsum("nc,yxoc->nyxo", x[:, i, j], kernel)
    return large[:, 1:1 + 2 * h, 1:1 + 2 * w] + bias


def convolved(x, kernel, bias=0):
    """The sum of each window of x [n, h, w, c], two pixels apart, times the kernel [5, 5, c, out]."""
    _, h, w, _ = x.shape
    need = [max((-(-size // 2) - 1) * 2 + 5 - size, 0) for size in (h, w)]
    x = np.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in need), (0, 0)])
    return np.stack([np.stack([np.einsum("nyxc,yxco->no", x[:, i:i + 5, j:j + 5], kernel)
                               for j in range(0, w, 2)], axis=1) for i in range(0, h, 2)], axis=1) + bias


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3)])
def test_a_dcgan_computes_what_its_layers_written_by_hand_do(shape, training):
    generator, discriminator = build_dcgan(shape, channels=3, seed=1)
    rng = np.random.default_rng(0)
    for network in generator, discriminator:  # far from the first weights, where all outputs are nearly alike
        network.set_weights([abs(rng.normal(0.5, 0.4, w.shape)) if "variance" in v.path else rng.normal(0, 0.4, w.shape)
                             for v, w in zip(network.weights, network.get_weights())])
    dense, first, _, _, stamp, second, _, last, _ = generator.layers
    z = sample_noise(4)
    x = np.maximum(batch_norm(z @ dense.get_weights()[0], first, training), 0)
    x = x.reshape(4, -(-shape[0] // 4), -(-shape[1] // 4), 6)
    x = np.maximum(batch_norm(transposed(x, *stamp.get_weights()), second, training), 0)
    pictures = (1 / (1 + np.exp(-transposed(x, *last.get_weights()))))[:, :shape[0], :shape[1]]
    assert np.allclose(generator(z, training=training), pictures, atol=1e-4)

    first, _, second, norm, _, _, dense = discriminator.layers
    x = convolved(pictures, *first.get_weights())
    x = batch_norm(convolved(np.where(x > 0, x, 0.2 * x), *second.get_weights()), norm, training)
    logits = np.where(x > 0, x, 0.2 * x).reshape(4, -1) @ dense.get_weights()[0] + dense.get_weights()[1]
    assert np.allclose(discriminator(pictures, training=training), logits, atol=1e-3)
