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
    return definitions(9, "conditional", "conditional_dcgan", "losses_of", "search", "paste", "blend")


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
