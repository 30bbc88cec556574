"""The controls of the notebooks, without a browser: what each sentence says is computed again by other means."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from notebook_parts import controls, definitions
from scipy.integrate import quad
from scipy.spatial.distance import cdist, jensenshannon
from scipy.stats import norm, permutation_test

from gan_lib import sample_noise


def numbers(control):
    """The numbers in a control's sentence."""
    return [float(number.rstrip(".")) for number in re.findall(r"-?\d[\d.]*(?:e[+-]?\d+)?", said(control))]


def said(control):
    return re.sub(r"(?<=\d),(?=\d{3})", "", control.said)


def at(control, **values):
    """The numbers in the sentence when the control is set so."""
    for name, value in values.items():
        control.controls[name].value = value
    return numbers(control)


def integral(function, low=-16, high=16):
    return quad(function, low, high, limit=400, points=np.linspace(low, high, 33)[1:-1])[0]


def best_V(p, q):
    """V against the best discriminator, by adaptive integration."""
    def gain(p, q, x):
        return p(x) * np.log(p(x) / (p(x) + q(x))) if p(x) > 1e-200 else 0.0

    return integral(lambda x: gain(p, q, x) + gain(q, p, x))


def KL(p, q):
    return integral(lambda x: p(x) * (np.log(p(x)) - np.log(q(x))) if p(x) > 1e-60 else 0.0)


@pytest.fixture(scope="module")
def nb01():
    return controls(1)


@pytest.fixture(scope="module")
def nb02():
    return controls(2)


@pytest.fixture(scope="module")
def nb03():
    return controls(3)


@pytest.fixture(scope="module")
def nb05():
    return controls(5)


@pytest.fixture(scope="module")
def nb07():
    return controls(7)


@pytest.fixture(scope="module")
def nb08():
    return controls(8)


@pytest.fixture(scope="module")
def nb09():
    return controls(9)


@pytest.fixture(scope="module")
def nb11():
    return controls(11)


def test_every_explore_of_the_notebooks_is_tested_here(nb01, nb02, nb03, nb05, nb07, nb08, nb09, nb11):
    tested = {name for nb in (nb01, nb02, nb03, nb05, nb07, nb08, nb09, nb11) for name in nb}
    source = open(__file__, encoding="utf-8").read()
    assert not controls(4) and all(f'["{name}"]' in source for name in tested)


@pytest.mark.parametrize(("middle", "steepness"), [(1, 0.5), (3.25, 2.25), (6, 8), (4, 1)])
def test_the_police(nb01, middle, steepness):
    control, _ = nb01["draw_police"]
    real, false = norm(4, 0.8), norm(2.5, 0.8)

    def log_D(x):
        return -np.logaddexp(0, -steepness * (x - middle))

    V = integral(lambda x: real.pdf(x) * log_D(x) + false.pdf(x) * (log_D(x) - steepness * (x - middle)), -4, 12)
    caught, accused, V_shown = at(control, middle=middle, steepness=steepness, reveal=False)
    *_, best = at(control, reveal=True)
    assert abs(caught - 100 * false.cdf(middle)) < 1 and abs(accused - 100 * real.cdf(middle)) < 1
    assert np.isclose(V_shown, V, atol=2e-3) and np.isclose(best, best_V(real.pdf, false.pdf), atol=2e-3)


@pytest.mark.parametrize(("mean", "spread"), [(1.5, 0.4), (4, 0.8), (6, 2), (2.5, 0.8)])
def test_the_press(nb01, mean, spread):
    control, _ = nb01["draw_press"]
    V, lowest, highest = at(control, mean=mean, spread=spread)
    assert np.isclose(V, best_V(norm(4, 0.8).pdf, norm(mean, spread).pdf), atol=2e-3)
    assert 0 <= lowest <= highest <= 1
    if (mean, spread) == (4, 0.8):
        assert lowest == highest == 0.5


def test_one_point(nb02):
    control, _ = nb02["draw_one_point"]
    for p, q in (0.1, 1), (0.5, 0.5), (1, 0.1):
        peak, formula = at(control, p=p, q=q)
        assert abs(peak - p / (p + q)) < 0.0011 and abs(formula - p / (p + q)) < 0.0006


@pytest.mark.parametrize(("mean", "spread"), [(-3, 0.5), (0, 1.75), (3, 3), (1, 1)])
def test_the_best_discriminator(nb02, mean, spread):
    control, _ = nb02["draw_best"]
    V, _, _, lowest, highest = at(control, mean=mean, spread=spread)
    p, q = norm(1, 1).pdf, norm(mean, spread).pdf
    D = [p(x) / (p(x) + q(x)) for x in np.linspace(-6, 6, 999)]
    assert np.isclose(V, best_V(p, q), atol=2e-3)
    assert abs(lowest - min(D)) < 0.01 and abs(highest - max(D)) < 0.01


@pytest.mark.parametrize(("mean", "spread"), [(-4, 0.5), (0, 2), (4, 3.2)])
def test_the_humps(nb02, mean, spread):
    control, _ = nb02["draw_humps"]
    q = norm(mean, spread).pdf

    def p(x):
        return (norm.pdf(x, -3, 0.6) + norm.pdf(x, 3, 0.6)) / 2

    def m(x):
        return (p(x) + q(x)) / 2

    *shown, two, usual = at(control, mean=mean, spread=spread)        # the name of the last begins with its 2
    assert np.allclose(shown, [KL(p, q), KL(q, p), (KL(p, m) + KL(q, m)) / 2], rtol=0.01, atol=2e-3)
    assert two == 2 and np.isclose(usual, 2 * KL(m, p), rtol=0.01, atol=2e-3)


@pytest.mark.parametrize("distance", [0, 1, 4, 8])
def test_the_distance(nb02, distance):
    control, _ = nb02["draw_distance"]

    def JSD(d):
        p, q = norm(-4, 0.5).pdf, norm(-4 + d, 0.5).pdf
        return np.log(2) + best_V(p, q) / 2

    shown, jsd, _, slope = at(control, distance=distance)
    assert shown == distance and abs(jsd - JSD(distance)) < 1e-3
    assert abs(slope - (JSD(distance + 0.1) - JSD(abs(distance - 0.1))) / 0.2) < 1e-2


@pytest.mark.parametrize(("scheme", "h", "steps"), [("simultaneous", 0.05, 0), ("simultaneous", 0.2, 500),
                                                    ("alternating", 0.25, 250), ("alternating", 0.5, 500)])
def test_the_path(nb02, scheme, h, steps):
    control, _ = nb02["draw_path"]
    theta = psi = 1.0
    for _ in range(steps):
        before = psi
        psi -= h * theta / (1 + np.exp(-psi * theta))
        seen = psi if scheme == "alternating" else before
        theta += h * seen / (1 + np.exp(-seen * theta))
    shown_h, start, end, shown_steps = at(control, scheme=scheme, h=h, steps=steps)
    assert (shown_h, start, shown_steps) == (h, 1.414, steps) and abs(end - np.hypot(theta, psi)) < 1e-3


@pytest.mark.parametrize("logit", [-10, 0, 5, 10])
def test_the_logit(nb03, logit):
    control, _ = nb03["draw_logit"]
    odds = np.e**logit
    shown, probability, shown_odds, _, slope = at(control, logit=logit)
    assert shown == logit and abs(probability - odds / (1 + odds)) < 1e-4
    assert np.isclose(shown_odds, odds, rtol=0.01) and abs(slope - odds / (1 + odds) ** 2) < 1e-4


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_the_walk(nb03, percent):
    control, names = nb03["draw_walk"]
    W1, b1, W2, b2 = names["G"].get_weights()

    def picture(t):
        start, end = sample_noise(2, seed=3)
        h = np.maximum(((1 - t) * start + t * end) @ W1 + b1, 0)
        return 1 / (1 + np.exp(-(h @ W2 + b2)))

    shown, changed = at(control, percent=percent)
    assert shown == percent and abs(changed - np.abs(picture(percent / 100) - picture(0)).mean()) < 6e-4


@pytest.mark.parametrize("logit", [-2, 10, 24])
def test_the_cliff(nb05, logit):
    control, _ = nb05["draw_cliff"]
    at(control, a=logit)
    shown, *rest = re.findall(r"(-?\d[\d.]*(?:e-?\d+)?|inf|nan)(?=[:;., ]|$)", said(control))
    value, gradient, stable, slope = (float(number.rstrip(".")) for number in rest)
    assert np.isclose(stable, np.log1p(np.exp(logit)), rtol=1e-3)
    assert np.isclose(slope, 1 / (1 + np.exp(-logit)), atol=1e-3)
    if logit > 17:
        assert value == np.inf and np.isnan(gradient)
    else:
        assert np.isclose(value, stable, rtol=1e-2) and np.isclose(gradient, slope, rtol=1e-2)


@pytest.mark.parametrize("logit", [-12, -5, 0, 6])
def test_saturation(nb05, logit):
    control, _ = nb05["draw_saturation"]
    shown, D, push, pull, ratio = at(control, a=logit)
    odds = np.exp(logit)
    assert shown == logit and np.allclose([D, pull], odds / (1 + odds), rtol=0.05)
    assert np.isclose(push, 1 / (1 + odds), rtol=0.05) and np.isclose(ratio, 1 / odds, rtol=5e-3, atol=1e-3)


FORCES = {"logistic": lambda a: 1 / (1 + np.exp(a)), "minimax": lambda a: 1 / (1 + np.exp(-a)),
          "least squares": lambda a: 1 - a, "hinge": lambda a: 1.0, "wasserstein": lambda a: 1.0}


@pytest.mark.parametrize("loss", FORCES)
def test_the_forces(nb05, loss):
    control, _ = nb05["draw_losses"]
    for a in -4, 0, 1, 4:
        shown, force = at(control, loss=loss, a=a)
        expected = FORCES[loss](a)
        assert shown == a and np.isclose(force, abs(expected), rtol=0.01, atol=1e-6)
        assert ("pulled up" if expected > 0 else "down" if expected < 0 else "neither") in said(control)


@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (1, 0.5), (4, 3), (2.25, 0.25)])
def test_the_two_bells(nb07, mean, spread):
    control, _ = nb07["draw_bells"]
    shares = (np.arange(100_000) + 0.5) / 100_000
    carried = np.mean((norm.ppf(shares) - norm.ppf(shares, mean, spread)) ** 2)  # grain by grain, in order
    *_, of_means, of_spreads, distance = at(control, mean=mean, spread=spread)
    assert np.isclose(distance, of_means + of_spreads, atol=0.011) and np.isclose(distance, carried, atol=0.01)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_the_balls(nb07, k):
    control, names = nb07["draw_balls"]

    def within(points, centres):
        radii = np.partition(cdist(centres, centres), k, axis=1)[:, k]  # its own distance, 0, is one of them
        return 100 * np.mean([np.any(np.hypot(*(point - centres).T) <= radii) for point in points])

    shown, precision, recall = at(control, k=k)
    real, fake = names["toy_real"], names["toy_fake"]
    assert shown == k and abs(precision - within(fake, real)) <= 0.5 and abs(recall - within(real, fake)) <= 0.5


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0])
def test_the_trade(nb07, scale):
    control, names = nb07["draw_trade"]
    W1, b1, W2, b2 = names["penalised"].generator.get_weights()
    h = np.maximum(scale * sample_noise(names["N"], seed=4) @ W1 + b1, 0)
    scores = names["our_judge"].scores((1 / (1 + np.exp(-(h @ W2 + b2)))).astype(np.float32))
    shown, precision, recall, distance = at(control, scale=scale)
    assert shown == scale and np.isclose(distance, scores["distance"], rtol=0.01, atol=0.1)
    assert abs(precision - 100 * scores["precision"]) < 1 and abs(recall - 100 * scores["recall"]) < 1


@pytest.mark.parametrize("r1", [0, 0.3])
def test_the_meter(nb07, r1):
    control, names = nb07["draw_meter"]
    for moment in 0, 3, 8:
        q, D, *_ = names["played"][r1][0][moment]
        gamma, step, V, best, floor, divergence = at(control, r1=r1, moment=moment)
        inside = (names["p"] * np.log(D.clip(1e-9)) + q * np.log((1 - D).clip(1e-9))).sum()  # D at the squares' middles
        assert (gamma, step) == (r1, 300 * moment) and abs(V - inside) < 0.05
        assert np.isclose(divergence, jensenshannon(names["p"].ravel(), q.ravel()) ** 2, atol=0.001)
        assert np.isclose(best, 2 * divergence - 2 * np.log(2), atol=0.007) and V < best + 0.01 and floor < -1.36


@pytest.mark.parametrize("kernel", ["left edges", "upper edges", "blur"])
def test_the_window(nb08, kernel):
    control, names = nb08["draw_window"]
    weights, wide = names["kernels"][kernel], np.pad(names["seven"], 2)
    for row, column in (0, 0), (5, 8), (13, 13), (7, 3):
        at_row, at_column, inked, pixels, total = at(control, kernel=kernel, row=row, column=column)
        window = wide[2 * row + 1:, 2 * column + 1:][:5, :5]  # a margin of 1 before, so from the second row of paper on
        window = np.pad(window, [(0, 5 - len(window)), (0, 5 - window.shape[1])])
        assert (at_row, at_column, inked, pixels) == (row, column, np.count_nonzero(window), 25)
        assert np.isclose(total, np.tensordot(window, weights), atol=0.006)


@pytest.mark.parametrize("k", range(2, 7))
def test_the_overlap_of_stamps(nb08, k):
    control, _ = nb08["draw_overlap"]
    across = {len([i for i in range(20) if 0 <= x - 2 * i < k]) for x in (20, 21)}  # stamps over a pixel of a row
    counts = sorted({a * b for a in across for b in across})
    high, wide, *shown = at(control, k=k)
    assert (high, wide) == (k, k) and shown == counts
    assert ("chequered" in said(control)) == (len(counts) > 1)


@pytest.mark.parametrize("percent", [0, 35, 100])
def test_the_walk_from_digit_to_digit(nb08, percent):
    control, names = nb08["draw_walk"]
    start, end = names["ends"]
    z = np.float32(start + percent / 100 * (end - start))
    chances = names["scorer"].probabilities(names["gan"].generator(z[None]).numpy())[0]
    shown, digit, probability = at(control, percent=percent)
    assert shown == percent and digit == chances.argmax() and abs(probability - chances.max()) < 0.006


@pytest.mark.parametrize(("wanted", "percent"), [(0, 0), (7, 50), (9, 100)])
def test_asking(nb09, wanted, percent):
    control, names = nb09["draw_asked"]
    start, end = sample_noise(2, seed=12)
    z = np.tile(start + percent / 100 * (end - start), (10, 1))
    read = names["scorer"].labels(names["gan"].generator([z, np.arange(10)]).numpy())
    assert at(control, wanted=wanted, percent=percent) == [wanted, percent, read[wanted], sum(read == np.arange(10))]


@pytest.mark.parametrize(("digit", "wanted", "mask", "weight"), [
    (4, 9, "stroke", 0.1), (8, 8, "centre", 1), (7, 2, "lower half", 10), (0, 0, "random pixels", 0)])
def test_filling_in(nb09, digit, wanted, mask, weight):
    control, names = nb09["draw_filled"]
    gan, y = names["gan"], names["y"][names["some"][digit]][None]
    hole = names["masks"][mask] if mask != "stroke" else np.ones((28, 28, 1), np.float32)
    if mask == "stroke":
        hole[4:12] = 0
    z, velocity, label = tf.constant(sample_noise(100, seed=20)[:1]), 0, tf.constant([wanted])
    for _ in range(30):
        with tf.GradientTape() as tape:
            tape.watch(z)
            picture = gan.generator([z, label])
            known = tf.reduce_sum(hole * tf.abs(picture - y))
            disliked = -tf.math.log_sigmoid(gan.discriminator([picture, label])[0, 0])
            loss = known + weight * disliked
        velocity = 0.9 * velocity - 0.01 * tape.gradient(loss, z)
        z = tf.clip_by_value(z + velocity, -1, 1)
    fill = gan.generator([z, label]).numpy()
    read = names["scorer"].labels(names["blend"](y, fill, hole, 40))[0]
    shown = at(control, digit=digit, wanted=wanted, mask=mask, weight=weight, angle=0, shift=-6, width=8)
    assert shown[:4] == [digit, round(100 * np.mean(hole == 0)), wanted, weight] and shown[6] == read
    assert np.isclose(shown[4], known, rtol=0.02, atol=0.1)
    assert np.isclose(shown[5], np.abs(fill - y)[0][hole == 0].mean(), atol=0.012)


@pytest.mark.parametrize(("pen", "lean"), [(0, 0), (-2, 1.5), (3, -3)])
def test_editing(nb09, pen, lean):
    control, names = nb09["draw_edited"]
    some, kinds = names["some"], names["kinds"][names["some"]]
    z = names["best_z"][some] + pen * names["broader"] + lean * names["leaning"]
    edited = names["gan"].generator([z, kinds]).numpy()
    down, right = np.mgrid[:28, :28]

    def slant(picture):
        return -np.polyfit(down.ravel(), right.ravel(), 1, w=np.sqrt(picture.ravel()))[0]

    shown = at(control, pen=pen, lean=lean)
    assert shown[:2] == [pen, lean] and np.isclose(shown[2], edited.mean(), atol=6e-4)
    assert np.isclose(shown[4], np.mean([slant(picture) for picture in edited]), atol=0.02)
    assert shown[6] == sum(names["scorer"].labels(edited) == kinds)


def forward(network, x, hidden):
    *pairs, (W, b) = zip(network.get_weights()[::2], network.get_weights()[1::2])
    for weights, bias in pairs:
        x = hidden(x @ weights + bias)
    return x @ W + b


def test_the_live_game_says_what_the_press_prints():
    ((control, _),) = controls(1, "watch").values()
    for _ in range(3):
        step, mean, spread, V = numbers(control)
        notes = forward(control.run.generator, sample_noise(20_000, 1, seed=9, prior="normal"), np.tanh)
        real = np.random.default_rng(1).normal(4, 0.8, (20_000, 1))
        sampled = -sum(np.logaddexp(0, sign * forward(control.run.discriminator, x, np.tanh)).mean()
                       for sign, x in ((-1, real), (1, notes)))
        assert step == control.run.alternations
        assert abs(mean - notes.mean()) < 0.006 and abs(spread - notes.std()) < 0.006 and abs(V - sampled) < 0.03
        control.step()


def test_the_laboratory_counts_modes_and_good_points_for_every_loss():
    ((control, _),) = controls(6, "watch").values()
    for loss in control.controls["loss"].options:
        control.controls["loss"].value = loss
        control.step()
        points, modes = control.run.gan.generate(2500, seed=1)[:, 0], np.exp(2j * np.pi * np.arange(8) / 8)
        distances = np.abs(points[:, 0] + 1j * points[:, 1] - modes[:, None])
        good = distances.min(axis=0) < 0.03
        step, covered, _, share, perfect_modes, perfect = numbers(control)
        assert f"loss {loss}:" in said(control) and step == control.run.gan.alternations
        assert covered == len(set(distances.argmin(axis=0)[good])) and abs(share - 100 * good.mean()) <= 0.5
        assert (perfect_modes, perfect) == (8, 98.9)
    first = control.run.notes[0]
    control.reset()
    assert control.run.notes == [first] and control.run.gan.alternations == 0


@pytest.mark.parametrize(("network", "gpu", "start", "batch"), [
    ("article's pair", "T4", 5, 7), ("DCGAN", "H100", 20, 14)])
def test_the_gpu_on_paper(nb11, network, gpu, start, batch):
    control, names = nb11["draw_gpu"]
    generator, discriminator = 100 * 128 + 128 * 784, 784 * 128 + 128
    if network == "DCGAN":
        generator = 100 * 1568 + 49 * 25 * 32 * 16 + 196 * 25 * 16
        discriminator = 196 * 25 * 16 + 49 * 25 * 16 * 32 + 1568
    work = 2 * (4 * generator + 8 * discriminator) * 2**batch
    launch, compute = names["STARTS"][network] * start / 1000, 1000 * work / {"T4": 8.1e12, "H100": 67e12}[gpu]
    size, slow, _, launching, computing, times, _, busy = at(
        control, network=network, gpu=gpu, start=start, batch=batch)
    rate, measured, fixed = (456, 128, 0.1) if network != "DCGAN" else (49, 64, 0.2)  # the rates of the README
    on_processor = (fixed + (1 - fixed) * 2**batch / measured) / rate
    assert size == 2**batch and np.isclose(slow, 1000 * on_processor, atol=0.06)
    assert np.isclose(launching, launch, atol=0.006) and np.isclose(computing, compute, atol=6e-4)
    assert np.isclose(times, slow / (launch + compute), rtol=0.05, atol=0.06)
    assert np.isclose(busy, 100 * compute / (launch + compute), atol=0.06)
    assert names["STARTS"][network] > 50


@pytest.mark.parametrize(("task", "link", "delay", "shared"), [
    ("article's pair", "1 Gbit/s", 20, False), ("article's pair", "1 Gbit/s", 100, True),
    ("DCGAN", "100 Gbit/s", 20, True), ("DCGAN", "NVLink", 1, False), ("DCGAN", "NVLink", 1, True)])
def test_the_crowd(nb11, task, link, delay, shared):
    control, names = nb11["draw_crowd"]
    compute, size = names["TASKS"][task]
    weights = 100 * 128 + 128 + 128 * 784 + 784 + 784 * 128 + 128 + 128 + 1  # of both networks
    assert size == 4 * weights or task == "DCGAN"

    def gain(n):
        late, byte = 1 + 0.05 * sum(1 / i for i in range(1, n + 1)), 1000 / names["LINKS"][link]
        took = compute * late / (n if shared else 1) + 2 * (n - 1) * (size / n * byte + delay / 1000)
        return compute * 1.05 / took * (1 if shared else n)

    _, ten, n, last, half, most = at(control, task=task, link=link, delay=delay, shared=shared)[-6:]
    assert n == (1000 if not shared else 64 if task == "DCGAN" else 128)  # a batch can be cut up no further
    assert np.isclose(ten, gain(10), rtol=0.05, atol=0.06) and np.isclose(last, gain(int(n)), rtol=0.05, atol=0.06)
    assert gain(int(half)) > 0.47 * half
    assert gain(int(most)) > 0.95 * max(gain(m) for m in (1, 3, 10, 16, 40, 160, 1000) if m <= n)


@pytest.mark.parametrize(("task", "link", "times", "best"), [
    ("article's pair", "1 Gbit/s", 1, 1), ("article's pair", "100 Gbit/s", 3.2, 8),
    ("DCGAN", "1 Gbit/s", 1.6, None), ("DCGAN", "100 Gbit/s", 10.5, 25), ("DCGAN", "NVLink", 11, 25)])
def test_where_cutting_up_a_minibatch_pays(nb11, task, link, times, best):
    """What the text says under the control, of a delay of 20 microseconds."""
    _, names = nb11["draw_crowd"]
    compute, size = names["TASKS"][task]
    took = {int(n): names["simulate"](int(n), compute, size, names["LINKS"][link], 20, True)
            for n in names["CROWD"] if n <= 128}
    fastest = min(took, key=took.get)
    assert best in (None, fastest) and np.isclose(took[1] / took[fastest], times, rtol=0.03)


def test_the_ring_and_its_scores():
    names = definitions(6, "ring", "score", "modes")
    ring, score, modes = names["ring"], names["score"], names["modes"]
    assert modes.shape == (8, 2) and len({tuple(mode) for mode in modes.round(6)}) == 8
    assert np.allclose(np.hypot(*modes.T), 1)
    good = [score(ring(2500, np.random.default_rng(seed))) for seed in range(20)]
    assert all(covered == 8 for covered, _ in good)
    assert abs(np.mean([share for _, share in good]) - (1 - np.exp(-4.5))) < 4 * 0.0021 / np.sqrt(20)
    assert score(np.repeat(modes[3:4], 2500, axis=0)) == (1, 1)
    assert score(np.zeros((2500, 2))) == (0, 0)


def test_the_statistics_are_those_of_scipy_and_of_the_definition():
    names, rng = definitions(6, "p_value", "holm"), np.random.default_rng(0)
    p_value, holm = names["p_value"], names["holm"]
    for shift in 0, 0.3, 0.8:
        differences = rng.normal(shift, 1, 15)
        reference = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert abs(p_value(differences) - reference) < 0.02
    assert p_value(np.full(15, 0.5)) < 0.001 and p_value(np.zeros(15)) == 1
    for p in rng.random((20, 14)) ** 3:
        smallest_first = np.sort(p)
        expected = [min(1, max((14 - j) * smallest_first[j] for j in range(i + 1))) for i in range(14)]
        assert np.allclose(np.sort(holm(p)), expected)


def test_gans_side_by_side_move_like_each_alone():
    """Notebook 06.  Plain gradient descent, since Adam would hide a wrong factor; a loss with all parts."""
    nb = definitions(6, "SideBySide", "ring", "toy_losses")
    x = nb["ring"](300, np.random.default_rng(0)).reshape(100, 3, 2)
    z = sample_noise(100, 6, seed=3, prior="normal").reshape(100, 3, 2)

    def changes(seeds, x, z, r1=1):
        run = nb["SideBySide"](len(seeds), nb["toy_losses"]["wasserstein"], r1=r1).begin(seeds, 1)
        run.gan.compile(generator_optimizer=keras.optimizers.SGD(0.1),
                        discriminator_optimizer=keras.optimizers.SGD(0.1))
        before = [weight.numpy() for weight in run.gan.trainable_variables]
        run.gan.discriminator_step(x, z), run.gan.generator_step(z)
        return [weight.numpy() - b for weight, b in zip(run.gan.trainable_variables, before)]

    def alike(r1):
        together = changes([4, 5, 6], x, z)
        return all(np.abs(alone[0] - beside[i]).max() < 0.01 * np.abs(alone).max() + 1e-6
                   for i in range(3)
                   for alone, beside in zip(changes([4 + i], x[:, i:i + 1], z[:, i:i + 1], r1), together))

    assert alike(r1=1) and not alike(r1=1.1)
