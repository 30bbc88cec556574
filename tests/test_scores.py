"""The scores: against closed forms, and on images of which the answer is known."""

import keras
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
    assert 0 <= gan_lib.frechet_distance(a, a) < 1e-9


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


# -- precision and recall ----------------------------------------------------------------------------------


def within_by_hand(points, centres, k):
    """The share of points within the balls of the centres, one after the other."""
    def far(a, b):
        return np.sqrt(np.sum((a - b) ** 2))

    radii = [sorted(far(c, other) for other in np.delete(centres, i, axis=0))[k - 1] for i, c in enumerate(centres)]
    return np.mean([any(far(p, c) <= r for c, r in zip(centres, radii)) for p in points])


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_and_recall_are_those_of_the_definition(k):
    rng = np.random.default_rng(k)
    real, fake = rng.normal(size=(60, 3)), 0.8 * rng.normal(size=(50, 3)) + 1.2
    expected = within_by_hand(fake, real, k), within_by_hand(real, fake, k)
    assert gan_lib.precision_and_recall(fake, real, k) == pytest.approx(expected)
    assert 0.05 < min(expected) and max(expected) < 1


def test_few_kinds_cost_recall_and_noise_costs_precision():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(500, 2)) + 20 * rng.integers(10, size=(500, 1))
    copies, few = real[rng.permutation(500)], real[real[:, 0] < 30]
    noisy = real + rng.normal(0, 4, (500, 2))
    assert gan_lib.precision_and_recall(copies, real) == (1, 1)
    precision, recall = gan_lib.precision_and_recall(few, real)
    assert precision == 1 and recall < 0.3
    assert gan_lib.precision_and_recall(noisy, real)[0] < 0.5
    assert gan_lib.precision_and_recall(real + 1000, real) == (0, 0)


def test_balls_need_neighbours():
    with pytest.raises(ValueError, match="3 fake and 9 real points, expected more than k = 3"):
        gan_lib.precision_and_recall(np.zeros((3, 2)), np.zeros((9, 2)))


# -- all scores at once --------------------------------------------------------------------------------------


def test_the_scores_are_what_their_names_say(scorer, digits):
    images = digits.train_images[:250]
    order = np.random.default_rng(0).permutation(297)
    scores, features, real = scorer.scores(images), scorer.features(images), scorer.features(digits.test_images[order])
    assert scores["distance"] == pytest.approx(scorer.distance(images), rel=1e-4)
    precision, recall = gan_lib.precision_and_recall(features, real[:250])
    assert (scores["precision"], scores["recall"]) == (precision, recall)
    assert scores["confidence"] == pytest.approx(scorer.probabilities(images).max(axis=1).mean(), abs=1e-5)
    shares = scorer.shares(images)
    assert scores["kinds"] == pytest.approx(np.prod(shares[shares > 0] ** -shares[shares > 0]))


def test_probabilities_are_the_classifiers(scorer, digits):
    logits = scorer.classifier.predict(digits.test_images[:20], verbose=0)
    assert scorer.probabilities(digits.test_images[:20]) == pytest.approx(keras.ops.softmax(logits).numpy(), abs=1e-5)
    assert scorer.probabilities(digits.test_images).sum(axis=1) == pytest.approx(1)


def test_one_kind_is_one_and_all_kinds_are_ten(scorer, digits):
    of = [digits.train_images[digits.train_labels == digit][:40] for digit in range(10)]
    assert scorer.scores(of[0])["kinds"] < 1.3 and 9.8 < scorer.scores(np.concatenate(of))["kinds"] <= 10
    two = scorer.scores(np.concatenate([of[0], of[6]]))
    assert two["kinds"] == pytest.approx(2, abs=0.3) and two["recall"] < 0.5 and two["confidence"] > 0.9


def test_copies_of_training_images_score_best(scorer, digits):
    """No score of these sees that they are copies; a forger with twenty plates is seen."""
    rng = np.random.default_rng(0)
    copies, plates = digits.train_images[rng.permutation(1500)[:297]], digits.train_images[rng.integers(20, size=297)]
    copied, few = scorer.scores(copies), scorer.scores(plates)
    assert copied["distance"] < few["distance"] / 3 and copied["recall"] > few["recall"] + 0.3
    assert few["precision"] > 0.6 and copied["precision"] > 0.8


def test_the_errors_are_the_spread_of_fresh_draws(scorer, digits):
    """Of images that a generator with 400 plates, ones above all, each a little smeared, draws: as often as we want."""
    often = np.where(digits.train_labels[:400] == 1, 6.0, 1.0)

    def draw(seed):
        rng = np.random.default_rng(seed)
        images = digits.train_images[rng.choice(400, 250, p=often / often.sum())]
        return (images + rng.uniform(0, 0.4, images.shape)).clip(0, 1).astype(np.float32)

    fresh = [scorer.scores(draw(seed)) for seed in range(30)]
    errors = np.mean([list(scorer.errors(draw(seed)).values()) for seed in range(100, 105)], axis=0)
    for name, error in zip(fresh[0], errors):
        # The order of magnitude: both numbers are rough, and of so few images halves say a little too much.
        assert 0.4 < error / np.std([scores[name] for scores in fresh]) < 2.5, name


def test_errors_need_images_and_resamples(scorer, digits):
    with pytest.raises(ValueError, match="7 images, expected at least 8"):
        scorer.errors(digits.train_images[:7])
    with pytest.raises(ValueError, match="resamples is 1, expected at least 2"):
        scorer.errors(digits.train_images[:20], resamples=1)
    assert all(error >= 0 for error in scorer.errors(digits.train_images[:8], resamples=2).values())


def test_a_classifier_of_ones_own_judges_in_its_place(scorer, digits):
    own = gan_lib.Scorer(digits, classifier=scorer.classifier)
    assert own.scores(digits.train_images[:100]) == scorer.scores(digits.train_images[:100])
    small = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(5, "relu"),
                              keras.layers.Dense(10)])
    assert gan_lib.Scorer(digits, classifier=small).features(digits.test_images[:3]).shape == (3, 5)


def test_a_classifier_without_logits_is_refused(digits):
    sure = keras.Sequential([keras.Input((784,)), keras.layers.Dense(5), keras.layers.Dense(10, "softmax")])
    with pytest.raises(ValueError, match="without activation"):
        gan_lib.Scorer(digits, classifier=sure)
