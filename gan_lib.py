"""The helpers that the notebooks share, in the order in which data goes through them:

    data -> networks -> losses -> training -> pictures -> controls

Symbols and terms are those of Goodfellow et al. (2014), "Generative Adversarial Nets": real data x, noise z,
generator G, discriminator D.  Names of layers and optimisers are Keras's.
"""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import gc
import hashlib
import html
import http.client
import io
import itertools
import json
import math
import os
import queue
import signal
import textwrap
import threading
import time
import traceback
import urllib.request
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


@contextlib.contextmanager
def _silent_stderr():
    """Send the process's stderr nowhere: TensorFlow logs there while it is imported, whatever its settings."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Training is 6 % faster where the processor has AVX-512, whose full width XLA does not use by itself.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_prefer_vector_width=512")
with _silent_stderr():
    import keras
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")  # several GANs in one notebook would set off its warning of retracing

import ipywidgets as widgets  # noqa: E402
import numpy as np  # noqa: E402
from IPython.display import HTML, Image, display  # noqa: E402
from matplotlib.animation import FuncAnimation  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

gc.freeze()  # searching all of TensorFlow's objects for garbage takes 0.2 s, which stops a slider now and then

# ---------------------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------------------

MNIST_MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "https://s3.amazonaws.com/img-datasets/mnist.npz",
)
MNIST_ARRAYS = {  # name -> shape, and the start of the SHA-256 of its bytes; every array is uint8
    "x_train": ((60_000, 28, 28), "741c988805d008ac"),
    "y_train": ((60_000,), "1feba77c54802fa5"),
    "x_test": ((10_000, 28, 28), "6d87418db22cc802"),
    "y_test": ((10_000,), "ddeff807876a9661"),
}
_BROKEN_FILE = (  # what reading one with NumPy may raise
    OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
NO_ANSWER_AFTER = 8  # seconds without an answer until the next mirror is asked


@dataclasses.dataclass(frozen=True)
class Digits:
    """Pictures of handwritten digits, and which digit each one is.

    train_images, test_images: float32 [n, 784], 28 rows of 28 pixels, 0 is paper and 1 is ink
    train_labels, test_labels: int64 [n], 0 to 9
    source: where they come from, in a word or two
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str


def load_mnist(path=None):
    """Return `Digits` from the first of these that there is:

    1. `path`, an .npz file in Keras's layout (x_train, y_train, x_test, y_test)
    2. the file that the environment variable GAN_LIB_MNIST names
    3. Keras's own cache
    4. a download, which is then kept in Keras's cache
    5. the 1 797 digits that come with scikit-learn, enlarged from 8x8 to 28x28 pixels

    Raises FileNotFoundError where a file of (1) or (2) is missing, ValueError where a file of (1) to (3) is not
    the whole and genuine MNIST.  No file is changed or deleted.
    """
    if path is not None:
        return _read_mnist(path, "MNIST (file)")
    if os.environ.get("GAN_LIB_MNIST"):
        return _read_mnist(os.environ["GAN_LIB_MNIST"], "MNIST (file)", " (named by GAN_LIB_MNIST)")
    cached = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "datasets", "mnist.npz")
    if cached.exists():
        return _read_mnist(cached, "MNIST (Keras's cache)")
    reasons = _download_mnist(cached)
    if not reasons:
        return _read_mnist(cached, "MNIST (download)")
    print(f"MNIST could not be downloaded ({'; '.join(reasons)}). "
          "These are the 1 797 smaller digits that come with scikit-learn.")
    return _embedded_digits()


def _read_mnist(path, source, named_by=""):
    """Read an .npz file, and make sure by the content of its arrays that it is MNIST."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}{named_by}. Expected: mnist.npz in Keras's layout. "
                                "Correct the path, or leave it out to have MNIST downloaded.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in MNIST_ARRAYS if name in file}
    except _BROKEN_FILE as error:
        raise ValueError(_not_mnist(path, f"it cannot be read ({error}); perhaps its download broke off")) from error
    for name, (shape, digest) in MNIST_ARRAYS.items():
        if name not in arrays:
            raise ValueError(_not_mnist(path, f"it holds no array {name}"))
        array = arrays[name]
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(_not_mnist(path, f"{name} is {array.dtype} {list(array.shape)}, "
                                              f"expected uint8 {list(shape)}"))
        if not hashlib.sha256(np.ascontiguousarray(array)).hexdigest().startswith(digest):
            raise ValueError(_not_mnist(path, f"the values in {name} are not MNIST's"))
    return _digits(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], 255, source)


def _not_mnist(path, what):
    return (f"{path} is not the MNIST data set: {what}. Move or delete that file and load again, "
            "or give the path of another mnist.npz.")


def _digits(train_images, train_labels, test_images, test_labels, white, source):
    def pixels(images):
        return np.divide(images.reshape(len(images), -1), white, dtype=np.float32)

    return Digits(pixels(train_images), train_labels.astype(np.int64),
                  pixels(test_images), test_labels.astype(np.int64), source)


def _download_mnist(destination):
    """Try one mirror after another; return why each failed, or an empty list when `destination` holds MNIST."""
    reasons = []
    for url in MNIST_MIRRORS:
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(destination) as file:
                _fetch(url, file)
                file.flush()
                _read_mnist(file.name, "")
            return []
        except (OSError, ValueError, http.client.HTTPException) as error:
            reasons.append(f"{url.split('/')[2]}: {getattr(error, 'reason', error) or type(error).__name__}")
    return reasons


def _fetch(url, file):
    """Copy what `url` answers into `file`, with a bar that shows how far it is."""
    with _open(url) as answer:
        start, size, done = time.monotonic(), int(answer.headers.get("Content-Length") or 0), 0
        while block := answer.read1(1 << 18):
            file.write(block)
            done += len(block)
            took = time.monotonic() - start
            if took > NO_ANSWER_AFTER and done < 1000 * took:
                raise TimeoutError(f"only {done} bytes in {took:.0f} s")
            bar = "#" * (20 * done // size) if size else ""
            print(f"\rMNIST [{bar:.<20}] {done / 1e6:.1f} MB of {size / 1e6:.1f}", end="", flush=True)
        print()
    if size and done != size:
        raise ValueError(f"it broke off after {done} of {size} bytes")


def _open(url):
    """`urlopen` with a time-out that also covers looking up the host's name, which urlopen's own does not."""
    answers = queue.Queue()

    def ask():
        try:
            answers.put(urllib.request.urlopen(url, timeout=NO_ANSWER_AFTER))
        except Exception as error:  # handed over to the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=NO_ANSWER_AFTER)
    except queue.Empty:
        raise TimeoutError(f"no answer within {NO_ANSWER_AFTER} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextlib.contextmanager
def _replacing(path):
    """A new binary file that takes the place of `path` when all went well, and leaves no trace when not."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into. Make it first.")
    whole = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(whole, "wb") as file:
            yield file
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def _embedded_digits():
    """scikit-learn's digits in MNIST's frame: 8x8 pixels enlarged smoothly to 20x20, in a margin of 4.

    Enlarging blurs; the contrast around half grey is raised again, so that strokes are as sharp as MNIST's.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    large = zoom(digits.images, (1, 2.5, 2.5), order=3, grid_mode=True, mode="nearest")
    sharp = (8 + 2.2 * (large - 8)).clip(0, 16)
    images, labels = np.pad(sharp, ((0, 0), (4, 4), (4, 4))), digits.target
    return _digits(images[:1500], labels[:1500], images[1500:], labels[1500:], 16, "scikit-learn digits")


# ---------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------


PRIORS = "uniform", "normal"


def sample_noise(n, dim=100, seed=0, prior="uniform"):
    """Noise z for the generator: float32 [n, dim], uniform on [-1, 1), or "normal": of mean 0 and variance 1.

    The same seed gives the same noise; a NumPy Generator in its place gives fresh noise at every call.
    """
    _check_count("n", n)
    _check_count("dim", dim)
    _check_prior(prior)
    if not isinstance(seed, np.random.Generator):
        _check_seed(seed)
    rng = np.random.default_rng(seed)
    if prior == "normal":
        return rng.standard_normal((n, dim), dtype=np.float32)
    return rng.random((n, dim), dtype=np.float32) * 2 - 1


def _check_prior(prior):
    if prior not in PRIORS:
        raise ValueError(f"prior is {prior!r}, expected one of {_listed(PRIORS)}.")


def build_generator(noise_dim=100, hidden=128, pixels=784, seed=0):
    """G: noise [n, noise_dim] -> pixels [n, pixels] in (0, 1).  Two layers: ReLU, then the sigmoid.

    The initialiser is He's (2015), a normal of standard deviation sqrt(2 / inputs), which Keras cuts off at 2.3 of
    them; the biases start at 0.
    """
    first, second = _layer_seeds(seed, network=0)
    return keras.Sequential([
        keras.Input((noise_dim,), name="noise"),
        keras.layers.Dense(hidden, "relu", kernel_initializer=keras.initializers.HeNormal(first)),
        keras.layers.Dense(pixels, "sigmoid", kernel_initializer=keras.initializers.HeNormal(second)),
    ], name="generator")


def build_discriminator(hidden=128, pixels=784, seed=0):
    """D: pixels [n, pixels] -> one logit [n, 1].  The probability "this is real" is the sigmoid of the logit."""
    first, second = _layer_seeds(seed, network=1)
    return keras.Sequential([
        keras.Input((pixels,), name="pixels"),
        keras.layers.Dense(hidden, "relu", kernel_initializer=keras.initializers.HeNormal(first)),
        keras.layers.Dense(1, kernel_initializer=keras.initializers.HeNormal(second)),
    ], name="discriminator")


def _layer_seeds(seed, network):
    """One seed for each of two layers, so that no two layers start from the same random numbers."""
    _check_seed(seed)
    return [int(s) for s in np.random.SeedSequence((seed, network)).generate_state(2, np.uint32) >> 1]


# ---------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Loss:
    """What the two networks minimise, as functions of what D returns, a(x) and a(G(z)), each [m, 1].

    For "log", "logistic" and "minimax" a is the logit of D(x), a probability; for the others it is just a number.

    discriminator(real_logits, fake_logits) -> scalar
    generator(fake_logits) -> scalar
    gradient_penalty: lambda; where it is not 0, D's loss has the term lambda * mean (|gradient of a at x'| - 1)^2,
        with x' on the line between an x and a G(z) (Gulrajani et al. 2017, equation 3)
    formulas: LaTeX of D's and of G's loss; source: paper and place
    """

    name: str
    discriminator: Callable
    generator: Callable
    gradient_penalty: float = 0.0
    formulas: tuple[str, str] = ("", "")
    source: str = ""

    def __repr__(self):
        return f"<Loss {self.name!r}: {self.source}>"

    def _repr_markdown_(self):
        d_formula, g_formula = self.formulas
        return f"**{self.name}**: $L_D = {d_formula}$, $\\; L_G = {g_formula}$ ({self.source})"


def _log_discriminator(real_logits, fake_logits):
    d_real, d_fake = tf.sigmoid(real_logits), tf.sigmoid(fake_logits)
    return -tf.reduce_mean(tf.math.log(d_real) + tf.math.log(1.0 - d_fake))


def _log_generator(fake_logits):
    return -tf.reduce_mean(tf.math.log(tf.sigmoid(fake_logits)))


def _logistic_discriminator(real_logits, fake_logits):
    """-log s(a) = softplus(-a) and -log(1 - s(a)) = softplus(a), where s is the sigmoid: finite for every a."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))


def _logistic_generator(fake_logits):
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def _minimax_generator(fake_logits):
    return -tf.reduce_mean(tf.nn.softplus(fake_logits))


def _least_squares_discriminator(real_logits, fake_logits):
    return 0.5 * tf.reduce_mean((real_logits - 1) ** 2 + fake_logits**2)


def _least_squares_generator(fake_logits):
    return 0.5 * tf.reduce_mean((fake_logits - 1) ** 2)


def _hinge_discriminator(real_logits, fake_logits):
    return tf.reduce_mean(tf.nn.relu(1 - real_logits) + tf.nn.relu(1 + fake_logits))


def _wasserstein_discriminator(real_logits, fake_logits):
    return tf.reduce_mean(fake_logits - real_logits)


def _push_up(fake_logits):
    return -tf.reduce_mean(fake_logits)


_D_OF_PAPER = r"-\mathbb{E}[\log D(x)] - \mathbb{E}[\log(1 - D(G(z)))]"

LOSSES = {loss.name: loss for loss in (
    Loss("log", _log_discriminator, _log_generator,
         formulas=(_D_OF_PAPER, r"-\mathbb{E}[\log D(G(z))]"),
         source="Goodfellow et al. 2014, section 3, computed from probabilities as the article does first"),
    Loss("logistic", _logistic_discriminator, _logistic_generator,
         formulas=(r"\mathbb{E}[\mathrm{softplus}(-a(x))] + \mathbb{E}[\mathrm{softplus}(a(G(z)))]",
                   r"\mathbb{E}[\mathrm{softplus}(-a(G(z)))]"),
         source="the same, computed from logits: the non-saturating loss"),
    Loss("minimax", _logistic_discriminator, _minimax_generator,
         formulas=(_D_OF_PAPER, r"\mathbb{E}[\log(1 - D(G(z)))]"),
         source="Goodfellow et al. 2014, equation 1, computed from logits"),
    Loss("least squares", _least_squares_discriminator, _least_squares_generator,
         formulas=(r"\frac12 \mathbb{E}[(a(x) - 1)^2] + \frac12 \mathbb{E}[a(G(z))^2]",
                   r"\frac12 \mathbb{E}[(a(G(z)) - 1)^2]"),
         source="Mao et al. 2017, equation 9"),
    Loss("hinge", _hinge_discriminator, _push_up,
         formulas=(r"\mathbb{E}[\max(0, 1 - a(x))] + \mathbb{E}[\max(0, 1 + a(G(z)))]", r"-\mathbb{E}[a(G(z))]"),
         source="Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17"),
    Loss("wasserstein", _wasserstein_discriminator, _push_up, gradient_penalty=10.0,
         formulas=(r"\mathbb{E}[a(G(z))] - \mathbb{E}[a(x)] + \lambda\, \mathbb{E}[(\|\nabla a(x')\| - 1)^2]",
                   r"-\mathbb{E}[a(G(z))]"),
         source="Arjovsky et al. 2017; Gulrajani et al. 2017, equation 3"),
)}


# ---------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------


class GAN:
    """Two networks, their optimisers, a loss, a seed, and the count of alternations trained so far.

    generator, discriminator: Keras models; default `build_generator(seed=seed)`, `build_discriminator(seed=seed)`
    loss: a name from `LOSSES`, or a `Loss` of your own.  May be set at any time; each compiles once.
    generator_optimizer, discriminator_optimizer: Keras optimisers; default Adam with Keras's defaults, as the
        article has it.  Their learning rates may be set at any time.
    discriminator_steps: steps of D in each alternation, the k of Algorithm 1.  May be set at any time; training
        compiles once for 1, and once for all larger numbers together.
    prior: of the noise, "uniform" on [-1, 1) or "normal".  May be set at any time; each compiles once.
    seed: every random number of training depends on this seed and the count of alternations alone

    Networks, optimisers and seed stay what they are from the first training on.  The networks run as in inference:
    Dropout would be off, and BatchNormalization would not learn.

    Raises ValueError or TypeError where these do not fit together.
    """

    def __init__(self, generator=None, discriminator=None, loss="logistic", *, seed=0, discriminator_steps=1,
                 prior="uniform", generator_optimizer=None, discriminator_optimizer=None):
        _check_seed(seed)
        self.generator = build_generator(seed=seed) if generator is None else generator
        self.discriminator = build_discriminator(seed=seed) if discriminator is None else discriminator
        self.loss, self.prior = loss, prior
        self.seed = int(seed)
        self.discriminator_steps = discriminator_steps
        self.generator_optimizer = generator_optimizer or keras.optimizers.Adam()
        self.discriminator_optimizer = discriminator_optimizer or keras.optimizers.Adam()
        _check_networks(self.generator, self.discriminator)
        if self.generator_optimizer is self.discriminator_optimizer:
            raise ValueError("generator_optimizer and discriminator_optimizer are one object, expected two: each keeps "
                             "the memory of its own network.")
        # Slots made now: a compiled function cannot make variables when it is called a second time.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self._compiled = tf.function(self._alternate, jit_compile=_has_xla())
        self._drawn = tf.function(lambda images, batch_size, step, _prior: (
            *self._draw(images, batch_size, step, 0)[:2], self._noise(batch_size, step, _OF_THE_GENERATOR)),
            jit_compile=_has_xla())

    @property
    def loss(self):
        return self._loss

    @loss.setter
    def loss(self, loss):
        self._loss = _find_loss(loss)

    @property
    def prior(self):
        return self._prior

    @prior.setter
    def prior(self, prior):
        _check_prior(prior)
        self._prior = prior

    @property
    def step(self):
        """The number of alternations trained so far."""
        return int(self.generator_optimizer.iterations)

    @property
    def variables(self):
        """All that training changes: weights, and the optimisers' counts, rates and slots."""
        owners = self.generator, self.discriminator, self.generator_optimizer, self.discriminator_optimizer
        return [variable for owner in owners for variable in owner.variables]

    def generate(self, n, seed=0):
        """n generated pictures, float32 [n, pixels]; the same seed gives pictures of the same noise."""
        shape = self.generator.input_shape[1:]
        return self.generator(sample_noise(n, math.prod(shape), seed, self.prior).reshape(n, *shape)).numpy()

    def discriminator_step(self, x, z, mix=0.5):
        """One step of D on real data x [m, pixels] and noise z [m, noise_dim]: (loss, mean D(x), mean D(G(z))).

        mix: a number or [m, 1], 0 to 1: where a gradient penalty looks, on the line from G(z), at 0, to x, at 1
        """
        fake = self.generator(z)  # outside the tape: G stays as it is
        with tf.GradientTape() as tape:
            real_logits, fake_logits = self.discriminator(x), self.discriminator(fake)
            loss = self.loss.discriminator(real_logits, fake_logits)
            if self.loss.gradient_penalty:
                loss += self.loss.gradient_penalty * _gradient_penalty(self.discriminator, fake + mix * (x - fake))
        weights = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(loss, weights), weights)
        return loss, tf.reduce_mean(tf.sigmoid(real_logits)), tf.reduce_mean(tf.sigmoid(fake_logits))

    def generator_step(self, z):
        """One step of G on noise z [m, noise_dim]; returns its loss."""
        with tf.GradientTape() as tape:
            loss = self.loss.generator(self.discriminator(self.generator(z)))
        weights = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    def minibatches(self, images, batch_size, step):
        """What alternation `step` works on: D's real data and noise (in its last step), and G's noise."""
        return [array.numpy() for array in self._drawn(images, batch_size, tf.constant(step), self.prior)]

    def _alternate(self, images, batch_size, count, discriminator_steps, _loss, _prior):
        """`count` alternations (Algorithm 1), compiled anew for each _loss and _prior.

        Returns the sums of discriminator loss, generator loss, mean D(x) and mean D(G(z)) over them, whether losses
        and weights stayed finite, and how many alternations went well before that ended.
        """
        sums, finite, went_well = tf.zeros([4]), True, 0
        step = tf.cast(self.generator_optimizer.iterations, tf.int32)
        last = step + count
        while step < last:  # over tf.range, XLA would compile anew for each count
            # Where discriminator_steps is the number 1 and no tensor there is no loop, so that XLA can overlap the
            # step of D with the step of G.
            repeat = 1
            while repeat < discriminator_steps:
                self.discriminator_step(*self._draw(images, batch_size, step, repeat))
                repeat += 1
            d_loss, d_real, d_fake = self.discriminator_step(*self._draw(images, batch_size, step, 0))
            g_loss = self.generator_step(self._noise(batch_size, step, _OF_THE_GENERATOR))
            sums += tf.stack([d_loss, g_loss, d_real, d_fake])
            finite = tf.logical_and(finite, tf.math.is_finite(d_loss + g_loss))
            went_well += tf.cast(finite, tf.int32)
            step += 1
        for weight in self.generator.trainable_variables + self.discriminator.trainable_variables:
            finite = tf.logical_and(finite, tf.reduce_all(tf.math.is_finite(weight)))
        return sums, finite, went_well

    def _draw(self, images, batch_size, step, repeat):
        """Real data, noise, and where between the two a gradient penalty looks.  What is not used costs nothing."""
        x = _minibatch(images, batch_size, self.seed, step, repeat)
        mix_shape = [batch_size] + [1] * (x.shape.rank - 1)
        mix = _uniform(mix_shape, 0.0, 1.0, tf.float32, 0, self.seed, step, _OF_THE_MIX + repeat)
        return x, self._noise(batch_size, step, repeat), mix

    def _noise(self, batch_size, step, repeat):
        return _noise([batch_size, *self.generator.input_shape[1:]], self.prior, self.seed, step, repeat)

    def save(self, path):
        """Write all of the GAN to one file, so that `GAN.load(path)` trains on exactly as if it had never stopped.

        The file is written under another name first, and takes its own when it is whole.
        """
        about = {
            "format": _FORMAT, "loss": self.loss.name, "loss_of_your_own": self.loss is not LOSSES.get(self.loss.name),
            "seed": self.seed,
            "discriminator_steps": self.discriminator_steps, "prior": self.prior,
            **{part: keras.saving.serialize_keras_object(getattr(self, part)) for part in _PARTS},
        }
        with _replacing(path) as file:
            np.savez(file, about=json.dumps(about),
                     **{str(i): variable.numpy() for i, variable in enumerate(self.variables)})

    @classmethod
    def load(cls, path, loss=None, **parts):
        """The GAN that `save` wrote to `path`.

        loss: needed where the GAN was trained with a loss of your own, which a file cannot hold
        parts: generator, discriminator, generator_optimizer or discriminator_optimizer to load into, where Keras
            cannot make them again from the file; they must have the architecture of the saved ones

        Raises FileNotFoundError where there is no such file, ValueError where it holds something else.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"There is no file {path}. Expected: a file that gan.save(path) wrote.")
        if unknown := parts.keys() - set(_PARTS):
            raise TypeError(f"GAN.load takes no {_listed(sorted(unknown))}, expected some of {_listed(_PARTS)}.")
        about, values = _read_saved(path)
        if loss is None and about["loss_of_your_own"]:
            raise ValueError(f"{path} was trained with a loss of your own, {about['loss']!r}, which a file cannot "
                             "hold. Pass it: GAN.load(path, loss=...).")
        parts = {part: parts[part] if part in parts else keras.saving.deserialize_keras_object(about[part])
                 for part in _PARTS}
        gan = cls(loss=loss or about["loss"], seed=about["seed"], prior=about["prior"],
                  discriminator_steps=about["discriminator_steps"], **parts)
        for variable, value in itertools.zip_longest(gan.variables, values):
            if variable is None or value is None or tuple(variable.shape) != value.shape:
                raise ValueError(
                    f"{path} holds a GAN of another architecture: {_shape(value)} in the file stands where "
                    f"{_shape(variable)} is expected. Build the parts that you pass to GAN.load as they were when "
                    "the file was saved, or pass none: the file's own are then built.")
        gan._restore(values)
        return gan

    def _restore(self, values):
        for variable, value in zip(self.variables, values):
            variable.assign(value)


# Repeats in a key: below _MOST_STEPS the steps of D, then the mixes of those steps, and last the generator's noise.
_MOST_STEPS = _OF_THE_MIX = 500
_OF_THE_GENERATOR = 2**10 - 1
_FORMAT = "gan_lib.GAN 1"
_PARTS = "generator", "discriminator", "generator_optimizer", "discriminator_optimizer"


def _read_saved(path):
    """What `save` wrote: its description, and the list of its arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            values = [file[str(i)] for i in range(len(file.files) - 1)]
        if about["format"] != _FORMAT:
            raise ValueError(f"its format is {about['format']!r}, expected {_FORMAT!r}")
    except (*_BROKEN_FILE, KeyError) as error:
        raise ValueError(f"{path} is not a whole file written by gan.save(path): {error}. "
                         "Give the path of another file, or train and save again.") from error
    return about, values


def _shape(array):
    return "nothing" if array is None else f"an array {list(array.shape)}"


def _find_loss(loss):
    if isinstance(loss, Loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"There is no loss {loss!r}. Expected one of {_known_losses()}, or a Loss of your own.")
    return LOSSES[loss]


def _known_losses():
    return _listed(LOSSES)


def _listed(names):
    return ", ".join(map(repr, names))


def _check_networks(generator, discriminator):
    pixels, wanted, logits = generator.output_shape, discriminator.input_shape, discriminator.output_shape
    if pixels != wanted:
        raise ValueError(f"The generator draws {pixels}, the discriminator reads {wanted}. Expected the same: "
                         "build both with the same number of pixels.")
    if logits[-1] != 1:
        raise ValueError(f"The discriminator returns {logits}, expected one logit for each picture, (None, 1): "
                         "end it with Dense(1) and no activation.")


def _check_count(name, value, at_most=math.inf):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= at_most:
        limit = "" if at_most == math.inf else f" and at most {at_most}"
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1{limit}.")


def _check_seed(seed):
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**20:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to 2**20 - 1.")


def _check_images(images, shape, pixels):
    """Data as a float32 tensor [n, *shape], within [0, 1] where they are pixels, or an error that says what to do."""
    if not tf.is_tensor(images):
        images = np.asarray(images)
        if images.dtype.kind not in "fiub":
            raise TypeError(f"images hold {images.dtype}, expected float32.")
        images = tf.identity(images.astype(np.float32, copy=False))  # tf.constant would keep a second copy
    images = tf.cast(images, tf.float32)
    if tuple(images.shape[1:]) != shape or not images.shape[0]:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"images have the shape {list(images.shape)}, expected [n, {wanted}] with n of at least 1. "
                         f"Pictures of another shape: images.reshape(len(images), {wanted}).")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not tf.reduce_all(tf.math.is_finite(images)):
        raise ValueError("images hold NaN (not a number) or infinity, expected numbers. "
                         "Find them with np.isfinite(images).")
    if pixels and (low < 0 or high > 1):
        advice = " Divide them by 255." if low >= 0 and 1 < high <= 255 else ""
        raise ValueError(f"images hold values from {low:g} to {high:g}, expected [0, 1]: this generator ends in a "
                         f"sigmoid and draws nothing else.{advice}")
    return images


@functools.cache
def _has_xla():
    """Whether this TensorFlow can compile for the CPU with XLA: the wheels for Windows cannot."""
    try:
        tf.function(lambda: tf.constant(1) + 1, jit_compile=True)()
        return True
    except tf.errors.OpError:
        return False


def _uniform(shape, low, high, dtype, stream, seed, step, repeat):
    """Random numbers that depend on (seed, step, repeat) alone; streams 0 and 1 have nothing in common."""
    return tf.random.stateless_uniform(shape, _key(stream, seed, step, repeat), low, high, dtype, alg=_algorithm())


def _key(stream, seed, step, repeat):
    """2 x 32 bits: 20 for the seed, 1 for the stream, 10 for the repeat, and 32 for the step."""
    return tf.stack([2**11 * seed + 2**10 * stream + repeat, step])


def _algorithm():
    """Threefry costs less than the usual Philox here, but there is no Threefry without XLA."""
    return "threefry" if _has_xla() else "philox"


def _minibatch(images, batch_size, seed, step, repeat):
    rows = _uniform([batch_size], 0, tf.shape(images)[0], tf.int32, 0, seed, step, repeat)
    return tf.gather(images, rows)


def _noise(shape, prior, seed, step, repeat):
    """Noise of this shape; if uniform, on [-1, 1) in steps of 1/32768: two numbers from each 32 random bits."""
    if prior == "normal":
        return tf.random.stateless_normal(shape, _key(1, seed, step, repeat), alg=_algorithm())
    size = math.prod(shape)
    pairs = _uniform([(size + 1) // 2], None, None, tf.int32, 1, seed, step, repeat)
    bits = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])
    return tf.reshape(tf.cast(bits[:size], tf.float32) / 32768, shape)


def _gradient_penalty(discriminator, x):
    """mean (|gradient of the logit at x| - 1)^2, where each logit depends on its own x alone.

    A network of many networks side by side has many logits for each x.
    """
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = discriminator(x)
    gradient = tape.gradient(logits, x)
    squares = tf.reduce_sum(gradient**2, axis=range(logits.shape.rank - 1, x.shape.rank))
    return tf.reduce_mean((tf.sqrt(squares + 1e-12) - 1) ** 2)  # a square root at exactly 0 would have no gradient


class Report(NamedTuple):
    """How the alternations since the last report went: their means, and the count so far."""

    step: int  # alternations trained so far, all in all
    d_loss: float
    g_loss: float
    d_real: float  # mean sigmoid of a(x), 0 to 1: mean D(x), where a is a logit
    d_fake: float  # mean sigmoid of a(G(z)), 0 to 1: mean D(G(z)), where a is a logit
    per_second: float  # alternations per second, compiling not counted


def train(gan, images, steps, *, batch_size=128, report_every=100):
    """Train `gan` for `steps` alternations while you iterate over it; each turn gives a `Report`.

        for report in train(gan, images, steps=1000):
            print(report)

    Between two reports the loop may draw, change learning rates or `gan.discriminator_steps`, or `break`.  Stopping
    the cell (KeyboardInterrupt) leaves the GAN as it was after its last whole slice, and training can go on.

    images: float [n, pixels], in [0, 1] if the generator ends in a sigmoid (as that of `build_generator` does);
        a float32 tf.Tensor is taken as it is, an array is copied into one
    steps: alternations to train, at least 1; each is `gan.discriminator_steps` steps of D, then one of G, each on a
        fresh minibatch drawn with replacement and on fresh noise (Goodfellow et al. 2014, Algorithm 1)
    report_every: alternations in one slice, which runs as one compiled call

    Raises ValueError or TypeError at once for wrong arguments; FloatingPointError, while you iterate, when a loss
    stops being finite: the weights are then those of the last report.
    """
    _check_count("steps", steps)
    _check_count("batch_size", batch_size)
    _check_count("report_every", report_every)
    images = _check_images(images, gan.discriminator.input_shape[1:], pixels=_draws_pixels(gan.generator))
    return _Training(gan, images, steps, batch_size, report_every)


def _draws_pixels(generator):
    """Whether the generator ends in a sigmoid: then it can only reach data within [0, 1]."""
    return getattr(generator.layers[-1], "activation", None) is keras.activations.sigmoid


class _Training:
    """An iterator of reports that trains as it goes, and complains when nobody iterated over it."""

    def __init__(self, *arguments):
        self._started = False
        self._reports = self._run(*arguments)

    def __iter__(self):
        return self

    def __next__(self):
        self._started = True
        return next(self._reports)

    def __repr__(self):
        return "<training: iterate over it, for example with list(train(...)), to make it run>"

    def __del__(self):
        if not getattr(self, "_started", True):
            warnings.warn("train(...) was called, but nothing iterated over it, so nothing was trained. "
                          "Write: for report in train(...): ...", RuntimeWarning, stacklevel=2)

    @staticmethod
    def _run(gan, images, steps, batch_size, report_every):
        last, compiled = gan.step + steps, None
        while gan.step < last:
            _check_count("gan.discriminator_steps", gan.discriminator_steps, at_most=_MOST_STEPS)
            kind = gan.discriminator_steps == 1, gan.loss, gan.prior
            form = 1 if kind[0] else tf.constant(gan.discriminator_steps), gan.loss, gan.prior
            if kind != compiled:
                gan._compiled(images, batch_size, tf.constant(0), *form)  # compiles, and trains nothing
                compiled = kind
            before, count = [v.numpy() for v in gan.variables], min(report_every, last - gan.step)
            start = time.perf_counter()
            sums, finite, went_well = gan._compiled(images, batch_size, tf.constant(count), *form)
            if not finite:
                gan._restore(before)
                raise FloatingPointError(_why_not_finite(gan, min(int(went_well) + 1, count)))
            yield Report(gan.step, *(sums.numpy() / count).tolist(), count / (time.perf_counter() - start))


def _why_not_finite(gan, alternations_later):
    if gan.loss.name == "log":
        why = ("It takes the logarithm of a probability, and float32 rounds a probability close to 0 or 1 to exactly "
               "0 or 1: log 0 is -inf. Train with the loss 'logistic', the same function from logits.")
    else:
        why = ("The weights may have grown without bound: lower the learning rates. Or the loss is infinite somewhere: "
               "go on with another one.")
    return (f"The loss {gan.loss.name!r} stopped being finite at alternation "
            f"{gan.step + alternations_later}. {why} "
            f"The weights are those of the last report, at alternation {gan.step}.")


# ---------------------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------------------

# One colour for one thing in every figure (Okabe-Ito); dashes differ too, so that they read without colour.
REAL = {"color": "black", "linestyle": ":"}
GENERATED = {"color": "#009E73", "linestyle": "-"}
DISCRIMINATOR = {"color": "#0072B2", "linestyle": "--"}
GRADIENT = {"color": "#D55E00", "linestyle": "-."}

_DPI = 110


def draw_digits(axes, images, columns=10, title=None, headings=()):
    """Draw pictures [n, 784] on Matplotlib axes, `columns` to a row under their headings, ink dark on white."""
    images = np.asarray(images)
    _check_count("columns", columns)
    if images.ndim != 2 or images.shape[1] != 784 or not len(images):
        raise ValueError(f"images have the shape {list(images.shape)}, expected [n, 784] with n of at least 1.")
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros((rows, columns, 30, 30), np.float32)  # each picture in a frame of one pixel of paper
    sheet.reshape(-1, 30, 30)[:len(images), 1:29, 1:29] = images.reshape(-1, 28, 28)
    sheet = sheet.swapaxes(1, 2).reshape(30 * rows, 30 * columns)
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    for column, heading in enumerate(headings):
        axes.text(30 * column + 15, -2, heading, ha="center", va="bottom", fontsize=9)
    if title:
        axes.set_title(title, pad=18 if headings else 6)


def show_digits(images, columns=10, title=None, headings=()):
    """Show pictures [n, 784] under the cell, `columns` to a row under their headings."""
    size = min(0.72, 8.6 / columns)
    rows = math.ceil(len(images) / columns)
    figure = _figure(size * columns, size * rows + 0.3 * bool(title) + 0.25 * bool(headings))
    draw_digits(figure.add_subplot(), images, columns, title, headings)
    _show(figure, title or "digits")


class LivePicture:
    """A picture under the cell that follows a training run: digits, the two losses, mean D(x) and mean D(G(z)).

        live = LivePicture(gan, steps=1000)
        for report in train(gan, images, steps=1000):
            live.update(report)

    The digits always come from the same 42 samples of noise.
    """

    def __init__(self, gan, steps):
        self.gan, self.last = gan, gan.step + steps
        self.reports = []
        self._display = _show(self._draw(), "before training", display_id=True)

    def update(self, report):
        """Add a `Report`, and draw anew."""
        self.reports.append(report)
        self._display.update(_image(self._draw(), f"alternation {report.step}"))

    def _draw(self):
        figure = _figure(8.6, 4.3)
        left, right = figure.subfigures(1, 2)
        speed = f"  ·  {self.reports[-1].per_second:.0f} per second" if self.reports else ""
        draw_digits(left.add_subplot(), self.gan.generate(42, seed=1), columns=7,
                    title=f"alternation {self.gan.step:,} of {self.last:,}{speed}")
        losses, scores = right.subplots(2, sharex=True)
        step = [r.step for r in self.reports]
        losses.plot(step, [r.d_loss for r in self.reports], **DISCRIMINATOR, label="discriminator's loss")
        losses.plot(step, [r.g_loss for r in self.reports], **GENERATED, label="generator's loss")
        if self.gan.loss.name in ("log", "logistic"):  # where the two losses would be at the end of the game
            for style, level, name, side in ((DISCRIMINATOR, 2 * math.log(2), "D: 2 log 2", "bottom"),
                                             (GENERATED, math.log(2), "G: log 2", "top")):
                losses.axhline(level, color=style["color"], linewidth=0.8, alpha=0.6)
                losses.annotate(name, (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
                                textcoords="offset points", va=side, fontsize=9)
        seen = [loss for r in self.reports for loss in (r.d_loss, r.g_loss)]
        losses.set(ylim=(1.05 * min([0, *seen]), 1.05 * max([6, *seen])), ylabel="loss")
        scores.plot(step, [r.d_real for r in self.reports], **REAL, label="mean D(x)")
        scores.plot(step, [r.d_fake for r in self.reports], **GENERATED, label="mean D(G(z))")
        scores.set(ylim=(0, 1), ylabel="probability", xlim=(0, self.last), xlabel="alternation")
        losses.legend(loc="upper right", fontsize=8)
        scores.legend(loc="center right", fontsize=8)
        return figure


def film(frames, titles, columns=10):
    """A film to play back without a kernel: each frame is pictures [n, 784] under its title."""
    _check_count("the number of frames", len(frames))
    if len(titles) != len(frames):
        raise ValueError(f"There are {len(titles)} titles for {len(frames)} frames, expected one for each.")
    rows = math.ceil(len(frames[0]) / columns)
    figure = _figure(0.5 * columns, 0.5 * rows + 0.4)
    axes = figure.add_subplot()

    def draw(i):
        axes.clear()
        draw_digits(axes, frames[i], columns, titles[i])

    player = FuncAnimation(figure, draw, frames=len(frames), interval=250).to_jshtml(default_mode="once")
    for icon, sign in _SIGNS.items():  # Matplotlib's player loads its icons from the network
        player = player.replace(f'<i class="fa {icon}"></i>', sign)
    return HTML(player)


_SIGNS = {
    "fa-minus": "−", "fa-fast-backward": "|◀◀", "fa-step-backward": "|◀", "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "❚❚", "fa-play": "▶", "fa-step-forward": "▶|", "fa-fast-forward": "▶▶|", "fa-plus": "+",
}


def _figure(width, height):
    """A white figure of `width` x `height` inches that no other thread knows of, as pyplot's would be."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(figure, alt, **options):
    return display(_image(figure, alt), **options)


def _image(figure, alt):
    return Image(_png(figure), width=round(100 * figure.get_figwidth()), alt=alt)


def _png(figure):
    buffer = io.BytesIO()
    figure.canvas.print_png(buffer, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------------
# Controls
# ---------------------------------------------------------------------------------------------------------


def explore(draw, size=(8.6, 3.6), **controls):
    """Sliders over a picture, and a sentence under it that says what the picture shows.

    draw(figure, **values): draws on an empty Matplotlib figure, and returns one sentence
    size: of the figure, in inches
    controls: name -> widget, or what ipywidgets.interact takes for one: (low, high), (low, high, step), bool, list

    A viewer without widgets shows the picture and the sentence of the initial values instead.
    """
    return _Explorer(draw, size, controls)


def watch(start, advance, draw, size=(8.6, 3.6), **knobs):
    """A training run with Start, Pause, Step and Reset, over a picture that follows it while the notebook stays free.

    start(): returns a fresh run, whatever it is; called at once, and by Reset
    advance(run, **values): trains one slice of it, some 20 to 100 ms, with the values that the knobs have then
    draw(figure, run): draws it on an empty Matplotlib figure, and returns one sentence
    size, knobs: as in `explore`

    One run goes on at a time: a new one, or a second Start, pauses the others.  An error in a slice stops the run and
    is shown under the picture.
    """
    return _Watcher(start, advance, draw, size, knobs)


class _Picture(widgets.VBox):
    """Controls (name -> widget) above a `picture` of constant size, and a `sentence` below it."""

    _ipython_display_ = None  # ipywidgets 7 would show itself by it, and leave out the picture for other viewers

    def __init__(self, size, controls, *buttons):
        self._size, self._lock = size, threading.Lock()
        self.controls = {name: _control(name, control) for name, control in controls.items()}
        width = f"{100 * size[0]:.0f}px"
        self.picture = widgets.Image(format="png", layout={"width": width, "max_width": "100%"})
        self.sentence = widgets.HTML(layout={"min_height": "3.5em", "max_width": width})
        row = [widgets.HBox(buttons)] if buttons else []
        super().__init__([*row, *self.controls.values(), self.picture, self.sentence])

    @property
    def values(self):
        return {name: control.value for name, control in self.controls.items()}

    def _show(self, draw, as_before=False):
        """Draw; `as_before` puts the axes where they were, which saves the time to lay them out."""
        self._draw_now = draw
        figure = _figure(*self._size)
        said = draw(figure)
        if as_before and len(figure.axes) == len(self._places):
            figure.set_layout_engine("none")
            for axes, place in zip(figure.axes, self._places):
                axes.set_position(place)
        self.picture.value = _png(figure)
        self._places = [axes.get_position(original=True) for axes in figure.axes]
        self.sentence.value = html.escape(said)

    @contextlib.contextmanager
    def _errors_shown(self):
        try:
            yield
        except Exception:
            self.sentence.value = f"<pre style='color:#b00'>{html.escape(traceback.format_exc(limit=-3))}</pre>"
            raise

    def _repr_mimebundle_(self, **kwargs):
        width, height = self._size
        figure = _figure(width, height + 0.6)  # for viewers without widgets: the sentence is in the picture
        said = self._draw_now(figure)
        figure.supxlabel(textwrap.fill(said, 120), x=0.01, ha="left", fontsize=10)
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2, "version_minor": 0, "model_id": self.model_id},
            "image/png": base64.b64encode(_png(figure)).decode(),
            "text/plain": said,
        }


class _Explorer(_Picture):
    def __init__(self, draw, size, controls):
        super().__init__(size, controls)
        self._draw = draw
        self._redraw()
        for control in self.controls.values():
            control.observe(self._redraw, names="value")

    def _redraw(self, change=None):
        with self._lock, self._errors_shown():
            self._show(lambda figure: self._draw(figure, **self.values), as_before=change is not None)


class _Watcher(_Picture):
    """`run` is what `start` returned; `running` says whether it goes on by itself; `error` is what stopped it."""

    _all = weakref.WeakSet()

    def __init__(self, start, advance, draw, size, knobs):
        actions = {"Start": self.start, "Pause": self.pause, "Step": self.step, "Reset": self.reset}
        self.buttons = {name: widgets.Button(description=name) for name in actions}
        super().__init__(size, knobs, *self.buttons.values())
        self._start, self._advance, self._draw = start, advance, draw
        self.running, self.error = False, None
        self.pause_all()
        self._all.add(self)
        self.reset()
        for name, action in actions.items():
            self.buttons[name].on_click(lambda _, action=action: action())
        _pause_all_on_interrupt()

    def start(self):
        """Go on, in the background, until `pause` or an error."""
        self.pause_all()
        with self._lock:  # held while a slice runs: an older thread of this run has then seen that it is to stop
            self.running = object()
            threading.Thread(target=self._go_on, args=[self.running], daemon=True).start()

    def pause(self):
        """Stop after the slice that runs now."""
        self.running = False

    @classmethod
    def pause_all(cls):
        for watcher in list(cls._all):
            watcher.pause()

    def step(self):
        """Pause, and train one slice."""
        self.pause()
        with self._lock:
            self._slice()

    def reset(self):
        """Pause, and begin anew."""
        self.pause()
        with self._lock, self._errors_shown():
            self.run, self.error = self._start(), None
            self._show(lambda figure: self._draw(figure, self.run))

    def _slice(self):
        try:
            with self._errors_shown():
                self._advance(self.run, **self.values)
                self._show(lambda figure: self._draw(figure, self.run), as_before=True)
        except Exception as error:
            self.error, self.running = error, False
            raise

    def _go_on(self, mine):
        while True:
            began = time.monotonic()
            with self._lock:
                if self.running is not mine:
                    return
                try:
                    self._slice()
                except Exception:
                    return  # it is shown under the picture and kept in `error`
            time.sleep(max(0.005, 0.05 - (time.monotonic() - began)))  # at most 20 pictures a second


def _pause_all_on_interrupt():
    """Let the interrupt button pause what runs in the background: a kernel that runs no cell ignores the button."""
    with contextlib.suppress(RuntimeError):  # outside of a kernel there is no loop, and no button
        asyncio.get_running_loop().call_later(1, signal.signal, signal.SIGINT, lambda *_: _Watcher.pause_all())


def _control(name, control):
    """The widget for one value, with a label that is never cut off."""
    if not isinstance(control, widgets.Widget):
        given, control = control, widgets.interactive.widget_from_abbrev(control)
        if control is None:
            raise ValueError(f"{name} is {given!r}, expected a widget, (low, high), (low, high, step), a bool or a "
                             "list.")
    control.description = control.description or name.replace("_", " ")
    control.style.description_width = "initial"
    if not isinstance(control, widgets.Checkbox):
        control.layout.width = "500px"
    return control
