"""What the tests share: tiny networks, and a machine that no test can reach the network or the user's files from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gan_lib  # before TensorFlow, whose log messages it silences

MNIST = os.environ.get("GAN_LIB_MNIST")
ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """The tests in a browser come last: they take minutes."""
    items.sort(key=lambda item: item.path.name in ("test_browser.py", "test_site.py"))


@pytest.fixture(autouse=True)
def no_network_and_an_empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", ("http://127.0.0.1:9/mnist.npz",))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("GAN_LIB_MNIST", raising=False)


@pytest.fixture
def mnist_path():
    if not MNIST:
        pytest.skip("the real MNIST is not at hand: GAN_LIB_MNIST names no file")
    return MNIST


@pytest.fixture(scope="session")
def images():
    return two_kinds()


def two_kinds():
    """300 pictures of 16 pixels: two kinds, with a little noise."""
    rng = np.random.default_rng(0)
    kinds = np.array([[0.9] * 8 + [0.1] * 8, [0.1] * 8 + [0.9] * 8])
    return (kinds[rng.integers(2, size=300)] + rng.uniform(-0.1, 0.1, (300, 16))).astype(np.float32)


def environment_of_a_learner():
    """For programs that load MNIST as a learner's do, where it is at hand."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | ({"GAN_LIB_MNIST": MNIST} if MNIST else {})


@pytest.fixture(scope="session")
def browser():
    """Chromium. Where it or Playwright is not installed the test is skipped; GAN_LIB_BROWSER=required makes it fail."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        browser_is_missing("Chromium is not installed (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser_is_missing("Playwright is not installed (pip install playwright)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--disable-quic"])
        yield browser
        browser.close()


def browser_is_missing(why):
    if os.environ.get("GAN_LIB_BROWSER") == "required":
        pytest.fail(why)
    pytest.skip(why)


def tiny_networks(seed=0, hidden=8):
    return (gan_lib.build_generator(noise_dim=5, hidden=hidden, pixels=16, seed=seed),
            gan_lib.build_discriminator(hidden=hidden, pixels=16, seed=seed))


def tiny_gan(seed=0, hidden=8, prior="uniform", **settings):
    """A GAN that compiles in half a second: XLA, which would take two more, is for the tests that ask for it."""
    gan = gan_lib.GAN(*tiny_networks(seed, hidden), seed=seed, prior=prior)
    gan.compile(**{"jit_compile": False} | settings)
    return gan


def trained(gan, images, steps, epochs=1, **options):
    """The reports of a training run of so many epochs, with `steps` alternations each: name -> one number an epoch."""
    return gan.fit(images, batch_size=16, steps_per_epoch=steps, epochs=epochs, verbose=0, **options).history


def state(gan):
    return [variable.value.numpy() for variable in gan.state]


def same(state_a, state_b):
    """Whether two states are the same, bit for bit."""
    return len(state_a) == len(state_b) and all(np.array_equal(a, b) for a, b in zip(state_a, state_b))


def in_another_process(program):
    """What a fresh Python prints that runs this program, with the tests' helpers imported."""
    run = subprocess.run([sys.executable, "-c", "from conftest import *\n" + program], cwd=ROOT / "tests", check=True,
                         capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return run.stdout.strip()
