"""The scores: against closed forms, and on images of which the answer is known."""

import numpy as np
import pytest

import gan_lib


@pytest.fixture(scope="module")
def digits():
    return gan_lib._embedded_digits()


@pytest.fixture(scope="module")
def scorer(digits):
    return gan_lib.Scorer(digits)


def test_the_distance_of_two_gaussians_is_that_of_their_closed_form():
    rng = np.random.default_rng(0)
    for _ in range(3):
        shift, scale = rng.normal(size=3), rng.uniform(0.5, 2, 3)
        unit = rng.normal(size=(200_000, 3))
        expected = np.sum(shift**2) + np.sum((scale - 1) ** 2)
        assert gan_lib.frechet_distance(unit, shift + scale * unit) == pytest.approx(expected, rel=0.03)


def test_the_distance_is_scipys():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(400, 5)) + 1
    s_a, s_b = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s_a + s_b - 2 * sqrtm(s_a @ s_b).real)
    assert gan_lib.frechet_distance(a, b) == pytest.approx(expected)
    assert gan_lib.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_classifier_knows_digits_that_it_never_saw(scorer, digits):
    assert scorer.accuracy > 0.93
    assert scorer.features(digits.test_images[:5]).shape == (5, 64)


def test_shares_are_those_of_the_labels(scorer, digits):
    shares = np.bincount(digits.test_labels, minlength=10) / len(digits.test_labels)
    assert scorer.shares(digits.test_images) == pytest.approx(shares, abs=0.03)


def test_a_collapse_and_noise_score_worse_than_real_digits(scorer, digits):
    real = digits.train_images[:1000]
    collapsed = digits.train_images[digits.train_labels == 1][:1000]
    noise = np.random.default_rng(0).random((1000, 784), dtype=np.float32)
    distances = [scorer.distance(images) for images in (real, collapsed, noise)]
    assert distances[0] < distances[1] / 5 and distances[1] < distances[2]


def test_pictures_of_any_such_shape_will_do(scorer, digits):
    images = digits.test_images[:50]
    assert scorer.distance(images.reshape(-1, 28, 28, 1)) == scorer.distance(images)
