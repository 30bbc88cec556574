"""The helpers that the notebooks share, in the order in which data goes through them:

    data -> networks -> losses -> training -> scores -> pictures -> controls

Symbols and terms are those of Goodfellow et al. (2014), "Generative Adversarial Nets": real data x, noise z,
generator G, discriminator D.  Names of layers, optimisers and callbacks are Keras's.
"""

import asyncio
import base64
import contextlib
import contextvars
import dataclasses
import functools
import gc
import hashlib
import html
import io
import json
import math
import numbers
import os
import shutil
import signal
import socket
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path


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
with contextlib.nullcontext() if "tensorflow" in sys.modules else _silent_stderr():
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, gan_lib needs it on TensorFlow. Restart "
                      "Python, and set the environment variable KERAS_BACKEND to tensorflow before Keras is imported.")

tf.get_logger().setLevel("ERROR")  # several GANs in one notebook would set off its warning of retracing

import ipywidgets as widgets  # noqa: E402
import matplotlib  # noqa: E402
import numpy as np  # noqa: E402
from IPython import get_ipython  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.display import HTML, Image, display  # noqa: E402
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
    cached = Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "datasets", "mnist.npz")
    if os.path.exists(cached):  # False, too, where the folder may not be read
        return _read_mnist(cached, "MNIST (Keras's cache)",
                           or_else=f" Or delete {cached}: MNIST is then downloaded again.")
    reasons = []
    for url in MNIST_MIRRORS:
        try:
            return _download_mnist(url, cached)
        except Exception as error:  # Keras raises plain Exception, too
            reasons.append(f"{url.split('/')[2]}: {str(error).split(' -- ')[-1].strip()}")
    print(f"MNIST could not be downloaded ({'; '.join(reasons)}). "
          "These are the 1 797 smaller digits that come with scikit-learn. To have MNIST, bring a file mnist.npz, and "
          "name it in the environment variable GAN_LIB_MNIST.")
    return _embedded_digits()


def _read_mnist(path, source, named_by="", or_else=""):
    """Read an .npz file, and make sure by the content of its arrays that it is MNIST."""
    path = Path(os.path.expanduser(path))
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}{named_by}. Expected: mnist.npz in Keras's layout. "
                                "Correct the path, or leave it out to have MNIST downloaded.")
    try:
        arrays = _arrays_of_mnist(path)
    except ValueError as error:
        raise ValueError(f"{path}{named_by} is not MNIST as expected: {error}. Expected: the file mnist.npz in Keras's "
                         f"layout, with the arrays {_listed(MNIST_ARRAYS)}. Give the path of that file.{or_else}"
                         ) from error
    return _digits(*arrays, 255, source)


def _arrays_of_mnist(path):
    """The four arrays in an .npz file, or a ValueError that says what there is instead of MNIST."""
    if kind := _kind_of_file(path):
        raise ValueError(f"it is {kind}")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            arrays = {name: file[name] for name in MNIST_ARRAYS if name in names}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it cannot be read to its end ({error}); perhaps a download broke off") from error
    except ValueError:  # NumPy's own words advise to load pickles
        raise ValueError("what it holds are no arrays of numbers") from None
    if missing := [name for name in MNIST_ARRAYS if name not in names]:
        more = ", ..." if len(names) > 5 else ""
        raise ValueError(f"it holds {_listed(names[:5]) or 'nothing'}{more}, and no {_listed(missing)}")
    for name, (shape, digest) in MNIST_ARRAYS.items():
        array = np.asarray(arrays[name])
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected uint8 {list(shape)}")
        if not hashlib.sha256(np.ascontiguousarray(array)).hexdigest().startswith(digest):
            raise ValueError(f"the values in {name} are other ones")
    return arrays.values()


FILES_BY_THEIR_FIRST_BYTES = {
    b"\x1f\x8b": "compressed with gzip, as MNIST's own files (train-images-idx3-ubyte.gz, ...) and mnist.pkl.gz are",
    b"\x00\x00\x08": "in the idx format of MNIST's own site",
    b"\x93NUMPY": "one NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"\x80": "a pickle",
    b"\x89PNG": "a picture",
    b"\xff\xd8": "a picture",
}


def _kind_of_file(path):
    """What a path leads to that is no .npz, in words; None where it may be one."""
    if path.is_dir():
        return "a folder"
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "empty"
    for signature, kind in FILES_BY_THEIR_FIRST_BYTES.items():
        if start.startswith(signature):
            return kind
    if start.startswith(b"PK"):
        return None
    is_text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    return "a text file" if is_text else "no .npz, which would begin with PK"


def _download_mnist(url, destination):
    """Fetch MNIST, and keep it at `destination` if it is genuine and there is room."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NO_ANSWER_AFTER)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(keras.utils.get_file("mnist.npz", url, cache_dir=folder))
            try:
                arrays = _arrays_of_mnist(path)
            except ValueError as error:
                raise ValueError(f"it sent a file that is not MNIST: {error}") from error
            try:
                if destination.parts[0].startswith("~"):  # it stays where nothing is known of a home
                    raise FileNotFoundError("this user has no home folder")
                destination.parent.mkdir(parents=True, exist_ok=True)
                with _replacing(destination) as whole:
                    shutil.copyfile(path, whole)
            except OSError as error:
                print(f"MNIST could not be kept for the next time ({error}). "
                      "Set the environment variable KERAS_HOME to a folder that can be written.")
            return _digits(*arrays, 255, "MNIST (download)")
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _replacing(path, overwrite=True, ending=""):
    """The path of a new file that takes the place of `path` when all went well, and leaves no trace when not."""
    path = Path(path)
    if not path.name.endswith(ending):
        raise ValueError(f"The file is to be called {path.name!r}, expected a name that ends in {ending}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} into. Make it first.")
    if not overwrite and path.exists():
        raise FileExistsError(f"There is a file {path} already. Give another path, or pass overwrite=True.")
    whole = path.with_name(f"part-{os.getpid()}-{path.name}")
    try:
        yield whole
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def _digits(train_images, train_labels, test_images, test_labels, white, source):
    def pixels(images):
        return np.divide(images.reshape(len(images), -1), white, dtype=np.float32)

    return Digits(pixels(train_images), train_labels.astype(np.int64),
                  pixels(test_images), test_labels.astype(np.int64), source)


def _embedded_digits():
    """scikit-learn's digits in MNIST's frame: 8x8 pixels enlarged smoothly to 20x20, in a margin of 4.

    Enlarging blurs; the contrast around half grey is raised again, so that strokes are as sharp as MNIST's.  They come
    sorted by writer, and are shuffled, so that those of the test are like those of the training.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    large = zoom(digits.images, (1, 2.5, 2.5), order=3, grid_mode=True, mode="nearest")
    sharp = (8 + 2.2 * (large - 8)).clip(0, 16)
    order = np.random.default_rng(0).permutation(len(sharp))
    images, labels = np.pad(sharp, ((0, 0), (4, 4), (4, 4)))[order], digits.target[order]
    return _digits(images[:1500], labels[:1500], images[1500:], labels[1500:], 16, "scikit-learn digits")


def load_images(folder, size=(28, 28), color=False):
    """Pictures of your own: every PNG and JPEG in `folder`, in the order of their names.

    Each is turned upright, cut to the proportions of `size` around its middle, and scaled to it; what is
    transparent becomes white.  Returns float32 [n, height, width, 1], or 3 at the end with color=True, from 0 (black)
    to 1 (white).  What cannot be read is left out, and named in one line; so are pictures that had to be enlarged.

    size: (height, width) in pixels

    Raises FileNotFoundError where there is no such folder, ValueError where it holds no picture that can be read.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    if np.shape(size) != (2,):
        raise ValueError(f"size is {size!r}, expected (height, width) in pixels.")
    folder, (height, width) = Path(os.path.expanduser(folder)), size
    _check_count("the height in size", height)
    _check_count("the width in size", width)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. Expected: a folder with PNG or JPEG pictures in it.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    pictures, unreadable, enlarged = [], [], []
    for path in paths:
        try:
            with Pillow.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow cuts off at 255
                    picture = Pillow.fromarray((np.asarray(picture) // 257).astype(np.uint8))
                picture = picture.convert("RGBA")
        except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
            unreadable.append(path.name)
            continue
        if picture.width < width or picture.height < height:
            enlarged.append(path.name)
        paper = Pillow.new("RGBA", picture.size, "white")
        fitted = ImageOps.fit(Pillow.alpha_composite(paper, picture), (width, height))
        pictures.append(np.asarray(fitted.convert("RGB" if color else "L"), np.float32) / 255)
    for names, what in ((unreadable, "unreadable and left out"),
                        (enlarged, f"smaller than size={(height, width)} and enlarged")):
        if names:
            print(f"{len(names)} of {len(paths)} pictures {what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}")
    if not pictures:
        raise ValueError(f"{folder} holds no picture that can be read ({len(paths)} with a name in .png, .jpg or "
                         ".jpeg). Expected: PNG or JPEG files in the folder itself.")
    return np.stack(pictures).reshape(len(pictures), height, width, 3 if color else 1)


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


def build_dcgan(shape=(28, 28, 1), channels=16, noise_dim=100, seed=0):
    """The pair (G, D) of Radford et al. (2016), small: G from noise [n, noise_dim] to pictures [n, *shape] in (0, 1).

    Two strided 5x5 convolutions in D, two transposed ones in G; batch normalisation in both but at G's output and
    D's input; no hidden dense layers in D; ReLU in G, LeakyReLU(0.2) in D; weights from N(0, 0.02).  The paper ends G
    in tanh; here it is a sigmoid, for pictures in [0, 1].

    shape: (height, width, 1 or 3), any height and width; channels: those of the widest picture inside each network,
        twice as many in the next smaller one
    """
    height, width, colors = shape
    seeds = iter(_layer_seeds(seed, network=2, count=6))
    quarter = math.ceil(height / 4), math.ceil(width / 4)

    def normal():
        return keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds))

    def normalised():
        return keras.layers.BatchNormalization(momentum=0.9)

    layers = keras.layers
    generator = keras.Sequential([
        keras.Input((noise_dim,), name="noise"),
        layers.Dense(math.prod(quarter) * 2 * channels, use_bias=False, kernel_initializer=normal()),
        normalised(), layers.ReLU(), layers.Reshape((*quarter, 2 * channels)),
        layers.Conv2DTranspose(channels, 5, 2, "same", use_bias=False, kernel_initializer=normal()),
        normalised(), layers.ReLU(),
        layers.Conv2DTranspose(colors, 5, 2, "same", activation="sigmoid", kernel_initializer=normal()),
        layers.Cropping2D(((0, 4 * quarter[0] - height), (0, 4 * quarter[1] - width))),
    ], name="generator")
    discriminator = keras.Sequential([
        keras.Input(shape, name="picture"),
        layers.Conv2D(channels, 5, 2, "same", kernel_initializer=normal()), layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(2 * channels, 5, 2, "same", use_bias=False, kernel_initializer=normal()),
        normalised(), layers.LeakyReLU(negative_slope=0.2),
        layers.Flatten(), layers.Dense(1, kernel_initializer=normal()),
    ], name="discriminator")
    return generator, discriminator


def _layer_seeds(seed, network, count=2):
    """One seed for each of some layers, so that no two layers start from the same random numbers."""
    _check_seed(seed)
    return [int(s) for s in np.random.SeedSequence((seed, network)).generate_state(count, np.uint32) >> 1]


def _check_prior(prior):
    if not isinstance(prior, str) or prior not in PRIORS:
        raise ValueError(f"prior is {prior!r}, expected one of {_listed(PRIORS)}.")


def _check_count(name, value, at_most=math.inf):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 1 <= value <= at_most:
        limit = "" if at_most == math.inf else f" and at most {at_most}"
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1{limit}.")


def _check_seed(seed):
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**20:
        raise ValueError(f"seed is {seed!r}, expected a whole number from 0 to 2**20 - 1.")


def _listed(names):
    return ", ".join(map(repr, names))


# ---------------------------------------------------------------------------------------------------------
# Losses
# ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Loss:
    """What the two networks minimise, as functions of what D returns, a(x) and a(G(z)), each float32 [m, 1].

    For "log", "logistic" and "minimax" a is the logit of D(x), a probability; for the others it is just a number.

    discriminator(real_logits, fake_logits) -> scalar
    generator(fake_logits) -> scalar; if `relativistic`, generator(real_logits, fake_logits) -> scalar
    penalty(a, x, fake, between) -> scalar, added to D's loss: a is D as a function; x are real data, fake generated
        ones, and each row of `between` lies somewhere on the line between the two.  R1, for example, is
        lambda a, x, fake, between: gamma / 2 * tf.reduce_mean(squared_gradient(a, x))
    formulas: LaTeX of D's and of G's loss; source: paper and place
    """

    name: str
    discriminator: Callable
    generator: Callable
    penalty: Callable | None = None
    relativistic: bool = False
    formulas: tuple[str, str] = dataclasses.field(default=("", ""), compare=False)  # a list would have no hash
    source: str = ""

    def __repr__(self):
        return f"<Loss {self.name!r}: {self.source}>"

    def _repr_markdown_(self):
        d_formula, g_formula = self.formulas
        return f"**{self.name}**: $L_D = {d_formula}$, $\\; L_G = {g_formula}$ ({self.source})"


def squared_gradient(a, x):
    """|gradient of a at x|^2, float32 [m], where a is a function from x [m, ...] to logits [m, 1].

    Each logit has to depend on its own x alone.  A network of s networks side by side has logits [m, s, 1], and the
    result is [m, s].
    """
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = a(x)
    return _squared_length(tape.gradient(logits, x), logits)


def _squared_length(gradient, logits):
    """The sum of squares over those axes of a gradient at x that logits [m, ..., 1] do not have."""
    axes = range(logits.shape.rank - 1, gradient.shape.rank)
    return tf.reduce_sum(tf.cast(gradient, tf.float32) ** 2, axis=axes)


def gradient_penalty(weight):
    """The penalty weight * mean (|gradient of a at x'| - 1)^2, x' between x and G(z) (Gulrajani et al. 2017, eq. 3)."""
    def penalty(a, x, fake, between):
        length = tf.sqrt(squared_gradient(a, between) + 1e-12)  # a square root at exactly 0 would have no gradient
        return weight * tf.reduce_mean((length - 1) ** 2)

    return penalty


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


def _relativistic_discriminator(real_logits, fake_logits):
    return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


def _relativistic_generator(real_logits, fake_logits):
    return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))


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
    Loss("wasserstein", _wasserstein_discriminator, _push_up, penalty=gradient_penalty(10.0),
         formulas=(r"\mathbb{E}[a(G(z))] - \mathbb{E}[a(x)] + \lambda\, \mathbb{E}[(\|\nabla a(x')\| - 1)^2]",
                   r"-\mathbb{E}[a(G(z))]"),
         source="Arjovsky et al. 2017; Gulrajani et al. 2017, equation 3"),
    Loss("relativistic", _relativistic_discriminator, _relativistic_generator, relativistic=True,
         formulas=(r"\mathbb{E}[\mathrm{softplus}(a(G(z)) - a(x))]", r"\mathbb{E}[\mathrm{softplus}(a(x) - a(G(z)))]"),
         source="Jolicoeur-Martineau 2018, the paired form; Huang et al. 2024"),
)}


def _find_loss(loss):
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"There is no loss {loss!r}. Expected one of {_listed(LOSSES)}, or a Loss of your own.")
    return LOSSES[loss]


def _check_loss(loss, logits_shape):
    """Make sure that both parts of a loss return one number, and that it depends on what D says."""
    a = tf.constant(np.random.default_rng(0).normal(size=(4, *logits_shape[1:])), tf.float32)
    real, fake = tf.identity(a), tf.identity(-a)
    for part, arguments, expected in (
            ("discriminator", [real, fake], "discriminator(real_logits, fake_logits)"),
            ("generator", [real, fake] if loss.relativistic else [fake],
             "generator(fake_logits), or with relativistic=True generator(real_logits, fake_logits)")):
        said = f"The {part} of the loss {loss.name!r}"
        with tf.GradientTape() as tape:
            tape.watch([real, fake])
            try:
                value = getattr(loss, part)(*arguments)
            except Exception as error:
                raise ValueError(f"{said} fails on four logits ({_line(error)}). Expected: a function {expected} "
                                 f"of logits {list(a.shape)}, that returns one number.") from error
        said += " returns"
        if not tf.is_tensor(value) or value.shape.rank != 0:
            shape = list(value.shape) if hasattr(value, "shape") else type(value).__name__
            raise ValueError(f"{said} {shape} for four logits, expected one number, the mean over the minibatch: "
                             "end it with tf.reduce_mean(...).")
        gradients = tape.gradient(value, [real, fake] if part == "discriminator" else [fake])
        if all(gradient is None for gradient in gradients):
            raise ValueError(f"{said} a number that has no gradient with respect to D's logits, so nothing could be "
                             "learned from it. Compute it from the logits, with differentiable TensorFlow functions "
                             "(not tf.round, tf.argmax, NumPy or a constant).")


# ---------------------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("gan_lib")
class GAN(keras.Model):
    """Two networks that are trained against each other: a Keras model, with `compile`, `fit`, callbacks and `save`.

    generator: any built Keras model from noise [n, ...] to data [n, ...]; default `build_generator(seed=seed)`
    discriminator: any built Keras model from such data to one logit for each, [n, 1]; default
        `build_discriminator(seed=seed)`.  For a conditional pair both have a second input, the labels.
    seed: every random number of training depends on this seed and the count of alternations alone
    prior: of the noise, "uniform" on [-1, 1) or "normal".  May be set at any time; each compiles once.

    The networks run as in training while they train (BatchNormalization learns, Dropout drops, regularisers and
    add_loss count), and as in inference in `generate`.  What is set in `compile` may be assigned, too: gan.loss =
    "hinge" is gan.compile(loss="hinge").  Where something changes that a compiled loop has read (a layer is frozen, a
    rate of Dropout, an optimiser's clipping), the next `fit` compiles anew.

    Made in the scope of a tf.distribute strategy, it trains on all replicas: each gets its share of the minibatch.
    Where these belong to several processes, all have to make the same calls, with the same callbacks.

    Raises ValueError or TypeError where the parts do not fit together.
    """

    def __init__(self, generator=None, discriminator=None, *, seed=0, prior="uniform"):
        if not tf.executing_eagerly():
            raise RuntimeError("TensorFlow's eager execution is off, as tf.compat.v1.disable_eager_execution() or "
                               "disable_v2_behavior() does it for programs of TensorFlow 1; gan_lib needs it. Restart "
                               "Python, and leave that call out.")
        _check_seed(seed)
        _check_prior(prior)
        super().__init__(name="gan")
        self._alternations_in_a_call = 10
        self.generator = build_generator(seed=seed) if generator is None else generator
        self.discriminator = build_discriminator(seed=seed) if discriminator is None else discriminator
        self.seed, self.prior = int(seed), prior
        self._pair = _Pair(self.generator, self.discriminator)
        self._algorithm = "threefry" if _xla_works() else "philox"
        self._alternations = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False,
                                             aggregation="only_first_replica", name="alternations")
        self._replicas = self.distribute_strategy.num_replicas_in_sync
        self.optimizer = self.train_function = None  # callbacks look for them
        self.built = True

    # -- what belongs to a GAN, and what may be changed ------------------------------------------------------

    _FIXED = "generator", "discriminator", "seed"
    _COMPILED = ("loss", "r1", "r2", "generator_optimizer", "discriminator_optimizer", "discriminator_steps",
                 "jit_compile")

    def __setattr__(self, name, value):
        """No assignment is ignored: it takes effect in the next `fit`, or it is refused."""
        if name in self._FIXED and name in self.__dict__:
            raise AttributeError(f"gan.{name} cannot be replaced, since optimisers and compiled loops belong to it. "
                                 "Make a new GAN(generator, discriminator, seed=...) of the parts that you want.")
        if (name == "optimizer" and value is not None) or name == "learning_rate":
            raise AttributeError("A GAN has two optimisers: gan.generator_optimizer and gan.discriminator_optimizer.")
        own = vars(GAN).get(name)
        if callable(own) or (isinstance(own, property) and name not in self._COMPILED):
            raise AttributeError(f"gan.{name} cannot be set. What can be: {', '.join(self._COMPILED)}, prior.")
        if name == "prior":
            _check_prior(value)
        if name in self._COMPILED and getattr(self, "built", False):
            if value is None:
                raise ValueError(f"gan.{name} cannot be None.")
            self.compile(**{name: value})
        else:
            super().__setattr__(name, value)

    @property
    def alternations(self):
        """The number of alternations trained so far."""
        return int(self._alternations.numpy())

    @property
    def state(self):
        """All variables that training changes: weights, statistics, the count, and what the optimisers remember."""
        optimizers = [getattr(self, name) for name in _OPTIMIZERS] if self.compiled else []
        return [*self.weights, *(variable for optimizer in optimizers for variable in optimizer.variables)]

    def _values(self):
        return [variable.value.numpy() for variable in self.state]

    def _restore(self, values):
        for variable, value in zip(self.state, values):
            variable.assign(value)

    def compile(self, loss=None, *, r1=None, r2=None, generator_optimizer=None, discriminator_optimizer=None,
                discriminator_steps=None, jit_compile=None, run_eagerly=None):
        """Set how to train.  What is not passed stays as it is; the weights and the count of alternations always do.

        loss: a name from `LOSSES`, or a `Loss` of your own; at first "logistic"
        r1, r2: gamma of the penalty gamma / 2 * mean |gradient of a|^2 at real, at generated data (Mescheder et al.
            2018, section 4.1); at first 0, no penalty
        generator_optimizer, discriminator_optimizer: Keras optimisers; at first Adam(0.001, beta_1=0.5)
        discriminator_steps: steps of D in each alternation, 1 to 500, the k of Algorithm 1; at first 1
        jit_compile: whether XLA compiles the training; at first "auto": where it is the faster way
        run_eagerly: True to run step by step in Python, for debugging; slow

        Each loss is compiled once, and so are penalties and more than one step of D; learning rates, gammas and the
        number of steps then change without compiling again.

        Raises ValueError or TypeError for what does not fit.
        """
        first = not self.compiled
        new = {name: value for name, value in dict(
            loss=loss, r1=r1, r2=r2, generator_optimizer=generator_optimizer, jit_compile=jit_compile,
            discriminator_optimizer=discriminator_optimizer, discriminator_steps=discriminator_steps,
        ).items() if value is not None}
        if first:
            adam = {name: keras.optimizers.Adam(0.001, beta_1=0.5) for name in _OPTIMIZERS if name not in new}
            new = dict(loss="logistic", r1=0.0, r2=0.0, discriminator_steps=1, jit_compile="auto") | adam | new
        self._check_settings(new)
        for name, value in new.items():
            super().__setattr__("_jit" if name == "jit_compile" else name, value)
        if run_eagerly is not None:
            self.run_eagerly = run_eagerly
        if new.keys() & {*_OPTIMIZERS, "jit_compile"}:
            self._pair.loops.clear()
        if new.keys() & {"discriminator_steps", "jit_compile"}:
            self._alternations_in_a_call = 10  # their duration was measured for other settings
        self.compiled, self.train_function = True, None
        if first:
            self.stop_training = False

    def _check_settings(self, new):
        """Bring new settings into their final form, or say what is wrong with them, before any is set."""
        if "loss" in new:
            new["loss"] = _find_loss(new["loss"])
            if new["loss"] is not self.loss:
                _check_loss(new["loss"], self._pair.logits_shape)
        for name in {"r1", "r2"} & new.keys():
            if isinstance(new[name], bool) or not isinstance(new[name], numbers.Real) or not 0 <= new[name] < math.inf:
                raise ValueError(f"{name} is {new[name]!r}, expected a number of at least 0.")
        if "discriminator_steps" in new:
            _check_count("discriminator_steps", new["discriminator_steps"], at_most=_MOST_STEPS)
        if "jit_compile" in new and new["jit_compile"] not in (True, False, "auto"):
            raise ValueError(f"jit_compile is {new['jit_compile']!r}, expected True, False or 'auto'.")
        both = [new.get(name, getattr(self, name, None)) for name in _OPTIMIZERS]
        if both[0] is both[1] and not isinstance(both[0], str):
            raise ValueError("generator_optimizer and discriminator_optimizer are one object, expected two: each keeps "
                             "the memory of its own network.")
        for name in filter(new.__contains__, _OPTIMIZERS):  # in order: all workers make the same variables at a time
            new[name] = self._optimizer(name, new[name])

    def _optimizer(self, name, optimizer):
        """An optimiser with memory for all weights that its network trains now, or an error."""
        network = self.generator if name == "generator_optimizer" else self.discriminator
        with self.distribute_strategy.scope():
            return _optimizer_of(network, optimizer, name)

    @property
    def jit_compile(self):
        """Whether XLA compiles the training: what was set, or with "auto" what was chosen."""
        if getattr(self, "_jit", False) != "auto":
            return getattr(self, "_jit", False)
        return self._algorithm == "threefry" and self._replicas == 1 and not self._pair.slow_in_xla

    @property
    def draws(self):
        """Within which range, (low, high), the generator can draw: by its last activation; None where that is open.

        Where it is open on one side only (ReLU: at least 0), that side is infinite.
        """
        return self._pair.draws

    # -- one alternation -------------------------------------------------------------------------------------

    def call(self, inputs, training=False):
        """G(z), for noise z [n, ...], or for [z, labels]."""
        return self.generator(inputs, training=training)

    def generate(self, n, seed=0, labels=None):
        """n generated pictures, float32 [n, ...]; the same seed gives pictures of the same noise.

        labels: for a conditional pair, one for each picture, or one for all
        """
        _check_count("n", n)
        shape = self._pair.noise_shape
        z = tf.constant(sample_noise(n, math.prod(shape), seed, self.prior).reshape(n, *shape))
        if labels is not None and np.ndim(labels) == 0:
            labels = np.repeat(labels, n)
        return tf.cast(self.generator(_with(z, self._check_labels(labels, n)), training=False), tf.float32).numpy()

    def discriminator_step(self, x, z, labels=None, mix=0.5, gammas=None):
        """One step of D on real data x [m, ...] and noise z [m, ...]: (loss, mean D(x), mean D(G(z))).

        labels: of x, for a conditional pair; generated data get the same ones
        mix: a number or [m, 1, ...], 0 to 1: where a penalty looks, on the line from G(z), at 0, to x, at 1
        gammas: r1 and r2; default those of `compile`
        """
        r1, r2 = (self.r1, self.r2) if gammas is None else gammas
        fake, _ = _forward(self.generator, z, labels)  # outside the tape: G stays as it is
        fake, x = tf.cast(fake, tf.float32), tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            with tf.GradientTape(persistent=True) as at_data:
                at_data.watch([x, fake])
                real_logits, of_real = _forward(self.discriminator, x, labels)
                fake_logits, of_fake = _forward(self.discriminator, fake, labels)
            loss = tf.cast(self.loss.discriminator(real_logits, fake_logits), tf.float32) + of_real + of_fake
            loss += _regularization(self.discriminator)
            for gamma, logits, data in (r1, real_logits, x), (r2, fake_logits, fake):
                if tf.is_tensor(gamma) or gamma:
                    lengths = _squared_length(at_data.gradient(logits, data), logits)
                    loss += gamma / 2 * tf.reduce_mean(lengths)
            if self.loss.penalty is not None:
                penalty = self.loss.penalty(lambda data: _forward(self.discriminator, data, labels)[0],
                                            x, fake, fake + mix * (x - fake))
                if penalty is None or np.shape(penalty) != ():
                    said = "None" if penalty is None else list(penalty.shape)
                    raise ValueError(f"The penalty of the loss {self.loss.name!r} returns {said}, expected one "
                                     "number, the mean over the minibatch: end it with tf.reduce_mean(...).")
                loss += tf.cast(penalty, tf.float32)
            share = self.discriminator_optimizer.scale_loss(loss / self._replicas)
        self._descend(tape, share, self.discriminator, self.discriminator_optimizer)
        return loss, tf.reduce_mean(tf.sigmoid(real_logits)), tf.reduce_mean(tf.sigmoid(fake_logits))

    def generator_step(self, z, x=None, labels=None):
        """One step of G on noise z [m, ...]; returns its loss.  Real data x [m, ...] are for relativistic losses."""
        with tf.GradientTape() as tape:
            fake, of_g = _forward(self.generator, z, labels)
            fake_logits, _ = _forward(self.discriminator, fake, labels)
            if self.loss.relativistic:
                real_logits, _ = _forward(self.discriminator, x, labels)
                loss = self.loss.generator(real_logits, fake_logits)
            else:
                loss = self.loss.generator(fake_logits)
            loss = tf.cast(loss, tf.float32) + of_g + _regularization(self.generator)
            share = self.generator_optimizer.scale_loss(loss / self._replicas)
        self._descend(tape, share, self.generator, self.generator_optimizer)
        return loss

    @staticmethod
    def _descend(tape, loss, network, optimizer):
        weights = network.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)

    def train_step(self, data):
        """One alternation on a minibatch x, or (x, labels), in the form that Keras's own examples have."""
        x, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        x = tf.convert_to_tensor(x)
        alternation = tf.cast(self._alternations.value, tf.int32)
        d_loss, g_loss, d_real, d_fake = self._alternate(x, labels, None, alternation, self.discriminator_steps, None)
        self._alternations.assign_add(1)
        return {"d_loss": d_loss, "g_loss": g_loss, "d_real": d_real, "d_fake": d_fake}

    def _alternate(self, images, labels, batch_size, alternation, discriminator_steps, gammas):
        """Algorithm 1, once: the steps of D, then one of G.  Returns D's and G's loss, mean D(x), mean D(G(z))."""
        self._seed_the_layers(alternation)
        # Where discriminator_steps is the number 1 and no tensor there is no loop, so that XLA can overlap the
        # step of D with the step of G.
        repeat = 1
        while repeat < discriminator_steps:
            x, y, z, mix = self._draw(images, labels, batch_size, alternation, repeat)
            self.discriminator_step(x, z, y, mix, gammas)
            repeat += 1
        x, y, z, mix = self._draw(images, labels, batch_size, alternation, 0)
        d_loss, d_real, d_fake = self.discriminator_step(x, z, y, mix, gammas)
        g_loss = self.generator_step(self._noise(x, alternation, _OF_THE_GENERATOR), x, y)
        return d_loss, g_loss, d_real, d_fake

    # -- random numbers, from (seed, alternation) alone ------------------------------------------------------

    def _draw(self, images, labels, batch_size, alternation, repeat):
        """Real data, labels, noise, and where between the data a penalty looks.  What is not used costs nothing.

        With a batch_size, the minibatch is drawn from all images, with replacement; without, they are the minibatch.
        """
        if batch_size is not None:
            rows = self._share(self._random("rows", [batch_size], alternation, repeat, high=tf.shape(images)[0]))
            images, labels = tf.gather(images, rows), None if labels is None else tf.gather(labels, rows)
        mix = self._for_each(images, "mix", [1] * (images.shape.rank - 1), alternation, _OF_THE_MIX + repeat)
        return images, labels, self._noise(images, alternation, repeat), mix

    def _noise(self, images, alternation, repeat):
        return self._for_each(images, self.prior, self._pair.noise_shape, alternation, repeat)

    def _for_each(self, images, kind, shape, alternation, repeat):
        """Random numbers of this shape for each of the images of this replica, its share of those of all replicas."""
        m = self._replicas * (images.shape[0] or tf.shape(images)[0])
        return self._share(self._random(kind, [m, *shape], alternation, repeat))

    def _share(self, batch):
        """The part of a minibatch that belongs to this replica: all of it, where there is only one."""
        if self._replicas == 1:
            return batch
        m, replica = tf.shape(batch)[0] // self._replicas, tf.distribute.get_replica_context().replica_id_in_sync_group
        return batch[m * replica:m * (replica + 1)]

    def _random(self, kind, shape, alternation, repeat, high=0):
        """Random numbers from seed, alternation and repeat: the same ones in a graph, under XLA and step by step."""
        algorithm = "philox" if tf.config.functions_run_eagerly() else self._algorithm
        # 2 x 32 bits: 20 for the seed, 1 for the stream, 10 for the repeat, and 32 for the alternation.
        stream = kind in PRIORS
        key = tf.stack([2**11 * self.seed + 2**10 * stream + repeat, tf.cast(alternation, tf.int32)])
        return _random_numbers(algorithm)(kind, shape, high, key)

    def _seed_the_layers(self, alternation):
        """Let what layers draw (Dropout, noise, augmentation) depend on seed and alternation alone, too."""
        if self._pair.layers_seeds:
            fresh = self._random("seeds", [len(self._pair.layers_seeds), 2], alternation, _OF_THE_LAYERS)
            for variable, value in zip(self._pair.layers_seeds, tf.unstack(fresh)):
                variable.assign(tf.cast(value, variable.dtype))

    def minibatches(self, x, batch_size, alternation, labels=None):
        """What an alternation of `fit` works on: D's real data and noise (in its last step), and G's noise."""
        real, _, noise, _ = self._draw(tf.convert_to_tensor(x), labels, batch_size, alternation, 0)
        return [tensor.numpy() for tensor in (real, noise, self._noise(real, alternation, _OF_THE_GENERATOR))]

    # -- fit ---------------------------------------------------------------------------------------------------

    def fit(self, x=None, y=None, *, batch_size=128, epochs=1, steps_per_epoch=None, initial_epoch=0, callbacks=None,
            verbose="auto"):
        """Train for `epochs` times `steps_per_epoch` alternations; return Keras's `History`, a report for each epoch.

        A report holds the means over its epoch of "d_loss", "g_loss", "d_real" and "d_fake" (the sigmoids of a(x) and
        of a(G(z)), 0 to 1: D(x) and D(G(z)), where a is a logit), and "per_second", alternations per second,
        compiling not counted.

        x: float [n, ...] as D reads it, within what G can draw (a sigmoid: [0, 1]), an array or a tensor, which is kept
            in memory, each minibatch drawn from it with replacement; or a tf.data.Dataset of minibatches, or of pairs
            (x, y), of which each alternation takes one, in all its steps.  Each is checked as an array is.
        y: labels, one for each of x, for a conditional pair
        steps_per_epoch: alternations in an epoch; default: as many as it takes to see as many data as x holds.
            A Dataset that ends before is begun again.  Each alternation is `discriminator_steps` steps of D, then one
            of G, each on fresh noise (Goodfellow et al. 2014, Algorithm 1).
        callbacks, initial_epoch, verbose: as in keras.Model.fit.  Callbacks that do something at each batch get
            their turn after each alternation, which is slower than several alternations in one call.

        Raises ValueError or TypeError at once for wrong arguments.  Where a loss stops being finite, raises
        FloatingPointError; the weights are then those of the last report.  After an interrupt (TrainingStopped, a
        KeyboardInterrupt) the GAN is as it was after a whole alternation, and training can go on.
        """
        if not self.compiled:
            self.compile()
        self._pair.check_layers(self.generator, self.discriminator)
        for name in _OPTIMIZERS:  # layers may have been frozen or unfrozen since
            self._optimizer(name, getattr(self, name))
        _check_count("batch_size", batch_size)
        _check_count("epochs", epochs)
        if batch_size % self._replicas:
            raise ValueError(f"batch_size is {batch_size}, expected a multiple of {self._replicas}, the replicas that "
                             "share each minibatch.")
        data = _Stream(self, x, y) if isinstance(x, tf.data.Dataset) else _Resident(self, x, y, batch_size)
        if steps_per_epoch is not None:
            _check_count("steps_per_epoch", steps_per_epoch)
        elif data.endless:
            raise ValueError("The Dataset repeats for ever, so an epoch of it would never end. Pass steps_per_epoch.")
        steps = steps_per_epoch or data.steps_in_a_pass
        callbacks = keras.callbacks.CallbackList(callbacks, add_history=True, add_progbar=verbose != 0, verbose=verbose,
                                                 epochs=epochs, steps=steps, model=self)
        for callback in callbacks.callbacks:
            if isinstance(callback, (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)):
                raise ValueError(f"{type(callback).__name__} changes the rate of a model's only optimiser; a GAN has "
                                 "two. Let a LambdaCallback assign gan.generator_optimizer.learning_rate, or give the "
                                 "optimisers a schedule: "
                                 "keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(...)).")
        one_by_one = self.run_eagerly or any(map(_acts_at_each_batch, callbacks.callbacks))
        self.stop_training, self._initial_epoch, logs = False, None, None
        callbacks.on_train_begin()
        try:
            for epoch in range(self._initial_epoch or initial_epoch, epochs):
                callbacks.on_epoch_begin(epoch)
                logs = self._epoch(data, steps, callbacks, one_by_one)
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training:
                    break
        except KeyboardInterrupt as interrupt:
            raise TrainingStopped(f"Stopped at alternation {self.alternations:,}. The GAN keeps what it has learned; "
                                  "run this cell again to go on.") from interrupt
        for name, network in zip(_OPTIMIZERS, (self.generator, self.discriminator)):
            getattr(self, name).finalize_variable_values(network.trainable_variables)
        callbacks.on_train_end(logs)
        return self.history

    def _epoch(self, data, steps, callbacks, one_by_one):
        """Train for an epoch, in as many compiled calls as let an interrupt through soon; return its report."""
        before, began_at = self._values(), self.alternations
        done, sums, seconds = 0, np.zeros(4), 0.0
        while steps is None or done < steps:
            count = 1 if one_by_one else self._alternations_in_a_call
            run, count = data.next(count if steps is None else min(count, steps - done), again=steps is not None)
            if run is None:
                break
            callbacks.on_train_batch_begin(done)
            start = time.perf_counter()
            part, finite, went_well = run(count)
            part, took = part.numpy(), time.perf_counter() - start
            if not finite:
                self._restore(before)
                raise FloatingPointError(self._why_not_finite(began_at + done + min(int(went_well) + 1, count)))
            done, sums, seconds = done + count, sums + part, seconds + took
            # Workers have to make calls of the same length, since TensorFlow counts the rounds in which they meet.
            if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
                self._alternations_in_a_call = max(1, round(SECONDS_IN_A_CALL * count / took))
            callbacks.on_train_batch_end(done - 1, dict(zip(_REPORT, part / count)))
            if self.stop_training:
                break
        return dict(zip(_REPORT, (sums / done).tolist())) | {"per_second": done / seconds}

    def _why_not_finite(self, alternation):
        if self.loss.name == "log":
            why = ("It takes the logarithm of a probability, and float32 rounds a probability close to 0 or 1 to "
                   "exactly 0 or 1: log 0 is -inf. Train with the loss 'logistic', the same function from logits.")
        else:
            why = ("The weights may have grown without bound: lower the learning rates. Or the loss is infinite "
                   "somewhere: go on with another one.")
        return (f"The loss {self.loss.name!r} stopped being finite at alternation {alternation}. {why} "
                f"The weights are those of the last report, at alternation {self.alternations}.")

    # -- the compiled loop -------------------------------------------------------------------------------------

    def _loop(self, images, labels, batch_size):
        """The function that trains on these data for a number of alternations, compiled by now."""
        steps = self.discriminator_steps
        if steps > 1 and self._replicas == 1:
            steps = tf.constant(steps)  # one compiled form for all; but within a replica there must be no loop
        form = self._form(), batch_size, images.shape, labels is None, steps if self._replicas > 1 else None
        arguments = steps, tuple(tf.constant(r, tf.float32) if r else 0.0 for r in (self.r1, self.r2))

        def run(count):
            if self.run_eagerly:
                return self._whole_or_not_at_all(images, labels, batch_size, count, *arguments)
            return self._pair.loops[form](images, labels, batch_size, tf.constant(count), *arguments)

        if form not in self._pair.loops and not self.run_eagerly:
            _before_compiling.get()()
            try:
                self._pair.loops[form] = tf.function(self._alternate_many, jit_compile=self.jit_compile)
                run(0)  # compiles, and trains nothing
            except tf.errors.OpError as error:
                del self._pair.loops[form]
                if not self.jit_compile:
                    raise
                reason = _line(error)
                if self._jit != "auto":
                    raise ValueError(f"XLA cannot compile this training: {reason} Train without it: "
                                     "gan.compile(jit_compile=False).") from error
                print(f"XLA cannot compile this training, so it goes on without it. ({reason})")
                self._pair.slow_in_xla, self._algorithm = True, "threefry" if _xla_works() else "philox"
                return self._loop(images, labels, batch_size)
        return run

    def _whole_or_not_at_all(self, *arguments):
        """Alternations step by step in Python, of which an interrupt leaves no half."""
        before = self._values()
        try:
            return self._alternate_many(*arguments)
        except BaseException:
            self._restore(before)
            raise

    def _form(self):
        """All that a compiled loop reads as Python values, to compile anew where one of them changes."""
        optimizers = self.generator_optimizer, self.discriminator_optimizer
        return (self.loss, self.prior, self.discriminator_steps == 1, self.r1 > 0, self.r2 > 0, self._algorithm,
                *map(_readings, (*optimizers, *self._flatten_layers(include_self=False))),
                *(_reading(variable.regularizer) for variable in self.trainable_variables),
                *(id(variable) for variable in self.trainable_variables),
                *(id(optimizer._learning_rate) for optimizer in optimizers))

    def _alternate_many(self, images, labels, batch_size, count, discriminator_steps, gammas):
        """`count` alternations, in one compiled call.

        Returns the sums of D's loss, G's loss, mean D(x) and mean D(G(z)) over them, whether losses and weights stayed
        finite, and how many alternations went well before that ended.
        """
        sums, finite, went_well = tf.zeros([4]), True, 0
        step = tf.cast(self._alternations.value, tf.int32)
        last = step + count
        while step < last:  # over tf.range, XLA would compile anew for each count
            report = self._on_all_replicas(images, labels, batch_size, step, discriminator_steps, gammas)
            sums += report
            finite = tf.logical_and(finite, tf.math.is_finite(report[0] + report[1]))
            went_well += tf.cast(finite, tf.int32)
            step += 1
            self._alternations.assign(tf.cast(step, tf.int64))
        for weight in self.trainable_variables:
            finite = tf.logical_and(finite, tf.reduce_all(tf.math.is_finite(weight.value)))
        return sums, finite, went_well

    def _on_all_replicas(self, images, labels, *arguments):
        """One alternation, each replica of a tf.distribute strategy on its share: the means over all of them."""
        if self._replicas == 1:
            return tf.stack(self._alternate(images, labels, *arguments))

        def on_one(images, labels, batch_size, *others):
            if batch_size is None:
                images, labels = self._share(images), None if labels is None else self._share(labels)
            return tf.stack(self._alternate(images, labels, batch_size, *others)) / self._replicas

        strategy = self.distribute_strategy
        return strategy.reduce("SUM", strategy.run(on_one, (images, labels, *arguments)), axis=None)

    # -- what is checked and kept ------------------------------------------------------------------------------

    def _check_labels(self, labels, n):
        """Labels as a tensor [n, ...] for the networks' second input, or None for a pair without one."""
        spec = self._pair.labels_spec
        if spec is None:
            if labels is not None:
                raise ValueError("Labels were passed, but this pair is not conditional. Give both networks a second "
                                 "input, as in keras.Model([noise, labels], ...), or leave the labels out.")
            return None
        if labels is None:
            raise ValueError("This pair is conditional: its networks take labels as well. Pass one for each of the "
                             f"{n} pictures: gan.fit(images, labels), gan.generate(n, labels=...).")
        labels, shape, rows = np.asarray(labels), spec.shape[1:], self._pair.rows_for_labels
        if labels.shape[:1] != (n,) or math.prod(labels.shape[1:]) != math.prod(shape):
            one_hot = labels.ndim == 2 and labels.shape[0] == n and math.prod(shape) == 1
            raise ValueError(f"labels have the shape {list(labels.shape)}, expected {[n, *shape]}: one for each "
                             f"picture.{' If they are one-hot: labels.argmax(axis=1).' if one_hot else ''}")
        if labels.dtype.kind not in "biuf":
            raise TypeError(f"labels hold {labels.dtype}, expected numbers. Number them: "
                            "np.unique(labels, return_inverse=True)[1].")
        low, high, whole = labels.min(), labels.max(), np.round(labels) if spec.dtype.is_integer else labels
        if (wrong := labels[labels != whole]).size:  # NaN is not even itself
            raise ValueError(f"labels hold {wrong[0]}, expected {'whole ' * spec.dtype.is_integer}numbers.")
        if rows and not 0 <= low <= high < rows:
            raise ValueError(f"labels run from {low:g} to {high:g}, expected 0 to {rows - 1}: the networks look them "
                             f"up in an Embedding of {rows} rows.")
        return tf.cast(labels.reshape(n, *shape), spec.dtype)

    def get_config(self):
        config = {"seed": self.seed, "prior": self.prior}
        for part in "generator", "discriminator":
            config[part] = keras.saving.serialize_keras_object(getattr(self, part))
        return config

    @classmethod
    def from_config(cls, config):
        parts = {part: _made(part, config[part]) for part in ("generator", "discriminator")}
        return cls(**parts, seed=config["seed"], prior=config["prior"])

    def get_compile_config(self):
        if not self.compiled:
            return {}
        config = {name: getattr(self, name) for name in self._COMPILED} | {"jit_compile": self._jit}
        for name, network in zip(_OPTIMIZERS, (self.generator, self.discriminator)):
            known = getattr(config[name], "inner_optimizer", config[name])._trainable_variables
            order = {id(weight): i for i, weight in enumerate(network.weights)}
            config[f"weights_of_{name}"] = [order[id(weight)] for weight in known]
            config[name] = keras.saving.serialize_keras_object(config[name])
        own = LOSSES.get(self.loss.name) is not self.loss
        return config | {"loss": self.loss.name, "loss_of_your_own": own}

    def compile_from_config(self, config):
        name, own = config["loss"], config.pop("loss_of_your_own")
        if own:
            config["loss"] = keras.saving.get_registered_object(name)
            if not isinstance(config["loss"], Loss):
                raise ValueError(f"This GAN was trained with a loss of your own, {name!r}, which a file cannot hold. "
                                 f"Pass it: keras.saving.load_model(path, custom_objects={{{name!r}: ...}}).")
        for name, network in zip(_OPTIMIZERS, (self.generator, self.discriminator)):
            config[name] = _made(name, config[name])
            if known := config.pop(f"weights_of_{name}"):  # some of which may be frozen by now
                config[name].build([network.weights[i] for i in known])
        self.compile(**config)

    def save(self, filepath, overwrite=True, **options):
        """As in Keras, to a .keras file, with all that training needs to go on exactly as if it had never stopped.

        The file is written under another name first, and takes its own when it is whole.  Layers, functions and losses
        of your own are not in it: they are to be passed when it is read, as custom_objects.
        """
        with _replacing(filepath, overwrite, ".keras") as whole:
            super().save(whole, **options)

    def save_weights(self, filepath, overwrite=True, **options):
        """As in Keras, to a .weights.h5 file, optimisers and count included; written like `save`'s."""
        with _replacing(filepath, overwrite, ".weights.h5") as whole:
            super().save_weights(whole, **options)

    def load_weights(self, filepath, **options):
        """As in Keras, from a file of `save` or `save_weights`; where that fails, the GAN stays as it was."""
        if not os.path.exists(filepath):
            raise FileNotFoundError(f"There is no file {filepath}. Expected: one that gan.save or save_weights wrote.")
        if not self.compiled:
            self.compile()  # the file holds what the optimisers remember
        before = self._values()
        try:
            super().load_weights(filepath, **options)
        except Exception as error:
            self._restore(before)
            raise ValueError(f"{filepath} does not hold the weights of a GAN like this one; the weights stay as they "
                             "were. Give the path of another file, or have the GAN made from the file: "
                             f"keras.saving.load_model(path). ({_line(error)})") from error


class TrainingStopped(KeyboardInterrupt):
    """An interrupt in `fit`: in a notebook one line, and the cells after it do not run."""

    def _render_traceback_(self):
        return [str(self)]


SECONDS_IN_A_CALL = 0.25
_before_compiling = contextvars.ContextVar("what is called before a loop is compiled", default=lambda: None)
_OPTIMIZERS = "generator_optimizer", "discriminator_optimizer"
_REPORT = "d_loss", "g_loss", "d_real", "d_fake"
# Repeats in a key: below _MOST_STEPS the steps of D, then the mixes of those steps, and last what is drawn once.
_MOST_STEPS = _OF_THE_MIX = 500
_OF_THE_LAYERS, _OF_THE_GENERATOR = 2**10 - 2, 2**10 - 1


@functools.cache
def _random_numbers(algorithm):
    """A function that draws random numbers, compiled by XLA by itself wherever it is called, if XLA is to be had.

    Threefry costs less than the usual Philox, but there is no Threefry without XLA.
    """
    def draw(kind, shape, high, key):
        if kind == "rows":
            return tf.random.stateless_uniform(shape, key, 0, high, tf.int32, alg=algorithm)
        if kind == "seeds":
            return tf.random.stateless_uniform(shape, key, None, None, tf.int32, alg=algorithm)
        if kind == "mix":
            return tf.random.stateless_uniform(shape, key, alg=algorithm)
        if kind == "normal":
            return tf.random.stateless_normal(shape, key, alg=algorithm)
        # Uniform noise on [-1, 1) in steps of 1/32768: two numbers from each 32 random bits.
        size = tf.reduce_prod(shape)
        pairs = tf.random.stateless_uniform([(size + 1) // 2], key, None, None, tf.int32, alg=algorithm)
        bits = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])
        return tf.reshape(tf.cast(bits[:size], tf.float32) / 32768, shape)

    return tf.function(draw, jit_compile=algorithm == "threefry")


def _xla_works():
    """Whether XLA can compile for this machine as it is set now: the wheels for Windows cannot, nor check_numerics."""
    try:
        tf.function(lambda: tf.random.stateless_normal([1], [0, 0], alg="threefry"), jit_compile=True)()
        return True
    except tf.errors.OpError:
        return False


def _with(data, labels):
    """What a network is called on."""
    return data if labels is None else [data, labels]


def _forward(network, data, labels):
    """A network's output, as in training, in float32, and what its layers add to the loss in this call."""
    output = network(_with(data, labels), training=True)
    if not tf.is_tensor(output):
        raise TypeError(f"The network {network.name!r} returns a {type(output).__name__} of {len(output)}, expected "
                        "one tensor: give it one output.")
    regularized = sum(weight.regularizer is not None for weight in network.trainable_variables)
    added = network.losses[:len(network.losses) - regularized]  # the regularisers' come last
    return tf.cast(output, tf.float32), sum(tf.cast(tf.reduce_sum(loss), tf.float32) for loss in added)


def _regularization(network):
    """What the regularisers of a network's weights add to its loss."""
    return sum(tf.cast(weight.regularizer(weight), tf.float32)
               for weight in network.trainable_variables if weight.regularizer is not None)


def _readings(thing):
    """The settings of a layer or an optimiser, which a compiled function takes as constants."""
    return id(thing), getattr(thing, "trainable", None), *(
        (name, _reading(value)) for name, value in vars(thing).items() if not name.startswith("_"))


def _reading(value):
    """What tells one setting from another: numbers, words and arrays by what they hold, other things by themselves."""
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(map(_reading, value))
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, (keras.regularizers.Regularizer, keras.constraints.Constraint)):
        return id(value), tuple(map(_reading, vars(value).values()))
    return value if callable(value) and type(value).__eq__ is object.__eq__ else id(value)


def _acts_at_each_batch(callback):
    """Whether a callback does something when a batch begins or ends, and not only when an epoch does."""
    own = keras.callbacks.ProgbarLogger, keras.callbacks.History
    how_often = getattr(callback, "save_freq", getattr(callback, "update_freq", None))
    if isinstance(callback, own) or how_often == "epoch":
        return False
    hooks = "on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"
    return any(getattr(getattr(callback, hook), "__func__", None) is not getattr(keras.callbacks.Callback, hook)
               for hook in hooks)


class _Resident:
    """Data that are kept in memory: each minibatch is drawn from all of them."""

    endless = False

    def __init__(self, gan, x, y, batch_size):
        self._gan, self._batch_size = gan, batch_size
        self._images = gan._pair.checked(x)
        self._labels = gan._check_labels(y, len(self._images))
        self.steps_in_a_pass = math.ceil(len(self._images) / batch_size)

    def next(self, count, again):
        """A function that trains for a number of alternations, and that number: not more than `count`."""
        return self._gan._loop(self._images, self._labels, self._batch_size), count


class _Stream:
    """Data that come as a tf.data.Dataset: each alternation takes one minibatch."""

    def __init__(self, gan, dataset, y):
        if y is not None:
            raise ValueError("y was passed beside a Dataset, expected the labels in it: "
                             "tf.data.Dataset.from_tensor_slices((images, labels)).batch(128).")
        if isinstance(dataset.element_spec, tuple) and len(dataset.element_spec) == 1:
            dataset = dataset.map(lambda x: x)
        spec = dataset.element_spec
        self._gan, self._dataset, self._paired, self._taken = gan, dataset, isinstance(spec, tuple), 0
        x, expected = spec[0] if self._paired else spec, gan._pair.data_shape
        if not isinstance(x, tf.TensorSpec) or (self._paired and len(spec) != 2):
            cure = "..."
            if isinstance(spec, dict):
                cure = f"lambda part: part[{'image' if 'image' in spec else next(iter(spec))!r}]"
            raise TypeError(f"The Dataset gives {spec}, expected minibatches x, or pairs (x, labels). "
                            f"Bring it into that form with dataset.map({cure}).")
        if not _is_numeric(x.dtype):
            raise TypeError(f"The Dataset gives {x.dtype.name}, expected numbers. Of files with pictures: "
                            "load_images(folder).")
        if self._paired and gan._pair.labels_spec is None:
            raise ValueError("The Dataset gives labels, too, but this pair is not conditional. Leave them out: "
                             "dataset.map(lambda x, labels: x).")
        if not x.shape.is_compatible_with(expected):
            advice = " Put minibatches together: dataset.batch(128)." if x.shape.rank == len(expected) - 1 else ""
            raise ValueError(f"The Dataset gives the shape {list(x.shape)}, expected {list(expected)}.{advice}")
        size = int(dataset.cardinality())
        self.endless = size == tf.data.INFINITE_CARDINALITY
        self.steps_in_a_pass = size if size > 0 else None
        self._batches = iter(dataset)
        self._gan._pair.checked(self._first()[0])

    def _first(self):
        """The first minibatch of a new pass."""
        batch = next(iter(self._dataset), None)
        if batch is None:
            raise ValueError("The Dataset gives no minibatch at all, expected at least one. Are there fewer pictures "
                             "than a minibatch takes, and does it drop what remains (drop_remainder=True)?")
        return batch if self._paired else (batch, None)

    def next(self, count, again):
        """As above, for one alternation; at the end of the data they are begun again, or there is no function."""
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self._dataset)
            if not again:
                return None, 0
            batch = next(self._batches)
        x, y = batch if self._paired else (batch, None)
        self._taken += 1
        x = self._gan._pair.checked(x, f"images of minibatch {self._taken} of the Dataset")
        if len(x) % self._gan._replicas:
            raise ValueError(f"The Dataset gives a minibatch of {len(x)}, expected a multiple of "
                             f"{self._gan._replicas}, the replicas that share it. Leave out what remains: "
                             "dataset.batch(128, drop_remainder=True).")
        return self._gan._loop(x, self._gan._check_labels(y, len(x)), None), 1


# -- do the parts fit together? ---------------------------------------------------------------------------------


class _Pair:
    """What is known of two networks from tracing them once, without computing anything: shapes, ranges, operations.

    Raises ValueError or TypeError where they do not fit together.
    """

    def __init__(self, generator, discriminator):
        for name, network in ("generator", generator), ("discriminator", discriminator):
            _check_network(name, network)
        if {id(v) for v in generator.variables} & {id(v) for v in discriminator.variables}:
            raise ValueError("The generator and the discriminator share a layer, expected two networks with weights of "
                             "their own: a step of one must not move the other. Build that layer twice.")
        self.loops = {}  # form -> compiled function
        self.layers = [list(network._flatten_layers()) for network in (generator, discriminator)]
        self.layers_seeds = [variable for network in (generator, discriminator)
                             for variable in network.variables if "seed_generator_state" in variable.path]
        noise, self.labels_spec = _inputs_of("generator", generator)
        data, d_labels = _inputs_of("discriminator", discriminator)
        self.noise_shape, self.data_shape = tuple(noise.shape[1:]), data.shape
        if (self.labels_spec is None) != (d_labels is None):
            conditional, other = ("generator", "discriminator") if d_labels is None else ("discriminator", "generator")
            raise ValueError(f"The {conditional} takes labels, the {other} does not. Give both a second input, or "
                             "neither.")
        if None in self.noise_shape:
            raise ValueError(f"The generator takes noise of the shape {_said(noise.shape)}, expected a fixed size. "
                             "Start it with keras.Input((100,)).")
        graph, gradients, drawn_shape, self.logits_shape = self._trace(generator, discriminator, noise)
        self.data_shape = None, *drawn_shape[1:]  # a discriminator may read pictures of any size
        between = self.logits_shape[1:-1]  # networks side by side, where data have the same axis
        if self.logits_shape[-1:] != (1,) or between != self.data_shape[1:len(between) + 1]:
            raise ValueError(f"The discriminator returns {_said(self.logits_shape)}, expected one logit for each "
                             "picture, (None, 1): end it with Flatten() and Dense(1), and no activation.")
        *_, end = _range_of(graph.outputs[1])
        if end in map(str.lower, _RANGES):
            raise ValueError(f"The discriminator ends in a {end}, expected a logit, any number: every loss here takes "
                             "the number before the sigmoid. End it with Dense(1) and no activation.")
        for name, has_one in zip(("generator", "discriminator"), gradients):
            if not has_one:
                raise ValueError("What the discriminator says of generated data has no gradient with respect to any "
                                 f"weight of the {name}, so it could never learn. Is there a layer that rounds, "
                                 "chooses (argmax) or leaves TensorFlow on the way?")
        *self.draws, self._end = _range_of(graph.outputs[0])
        self.draws = None if self.draws == [-math.inf, math.inf] else tuple(self.draws)
        self.rows_for_labels = self.labels_spec is not None and _rows_for(graph.inputs[1], graph)
        # XLA runs these many times slower on a processor (openxla/xla#34273); on a GPU it does not.
        definition = graph.as_graph_def()
        nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
        slow = any(node.op.startswith(("Conv", "DepthwiseConv", "While", "StatelessWhile")) for node in nodes)
        self.slow_in_xla = slow and not tf.config.list_physical_devices("GPU")

    def _trace(self, generator, discriminator, noise):
        """Graph, which networks get a gradient, and the shapes of what G and D return."""
        gradients, shapes = [], []

        def both(z, labels):
            with tf.GradientTape(persistent=True) as tape:
                drawn = _forward(generator, z, labels)[0]
                if drawn.shape.rank is None:
                    raise ValueError("The generator draws something of unknown shape. Is there a layer that leaves "
                                     "TensorFlow on the way (numpy_function, py_function)? Nothing could be learned "
                                     "through it.")
                shapes.append(tuple(drawn.shape))
                if not drawn.shape.is_compatible_with(self.data_shape) or None in shapes[0][1:]:
                    raise ValueError(
                        f"The generator draws {_said(drawn.shape)}, the discriminator reads {_said(self.data_shape)}. "
                        "Expected the same: build both for the same pictures, with the same number of pixels."
                        + " Or is it GAN(generator, discriminator) the other way round?" * (shapes[0][1:] == (1,)))
                logits = _forward(discriminator, drawn, labels)[0]
                shapes.append(tuple(logits.shape))
            for network in generator, discriminator:
                weights = network.trainable_variables
                if not weights or tf.distribute.has_strategy():  # outside of its replicas a strategy has no gradients
                    gradients.append(True)
                else:
                    gradients.append(any(gradient is not None for gradient in tape.gradient(logits, weights)))
            return drawn, logits

        trace = tf.autograph.experimental.do_not_convert(both)
        graph = tf.function(trace).get_concrete_function(noise, self.labels_spec).graph
        return graph, gradients, *shapes[-2:]

    def check_layers(self, *networks):
        for network, before in zip(networks, self.layers):
            if list(map(id, network._flatten_layers())) != list(map(id, before)):
                raise ValueError(f"Layers of the network {network.name!r} have been added or taken away since it "
                                 "became part of this GAN. Make a new one of it: GAN(generator, discriminator).")

    def checked(self, x, what="images"):
        """Data as a float32 tensor [n, ...] within what G can draw, or an error that says what to do."""
        tensor, low, high = _as_tensor(x)
        expected = [("n" if size is None else size) for size in self.data_shape]
        if tensor.shape.rank == 0 or not tensor.shape.is_compatible_with(self.data_shape) or not len(tensor):
            raise ValueError(f"{what} have the shape {list(tensor.shape)}, expected [{', '.join(map(str, expected))}] "
                             f"with n of at least 1.{self._advice_on_shape(tuple(tensor.shape))}")
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError(f"{what} hold NaN (not a number) or infinity, expected numbers. "
                             "Find them with np.isfinite(images).")
        if self.draws is not None and (low < self.draws[0] or high > self.draws[1]):
            raise ValueError(f"{what} hold values from {low:g} to {high:g}, expected "
                             f"[{self.draws[0]:g}, {self.draws[1]:g}]: this generator ends in a {self._end} and draws "
                             f"nothing else.{self._advice_on_range(low, high)}")
        if self.draws == (-1, 1) and low >= 0 and what == "images":  # a minibatch of pale ones may come by chance
            warnings.warn(f"images hold values from {low:g} to {high:g}, but this generator ends in a {self._end} and "
                          "draws from -1 to 1. Bring them there, 2 * images - 1, or let it end in a sigmoid.",
                          stacklevel=4)
        return tensor

    def _advice_on_shape(self, shape):
        given, wanted = shape[1:], self.data_shape[1:]
        if 0 in shape[:1]:
            return " There is no picture in them: is the folder empty, or a selection too narrow?"
        if shape == wanted:
            return " For a single picture: images[None]."
        if given[1:] == wanted:
            return " Are these minibatches? Join them: np.concatenate(images)."
        as_wanted = f"reshape(len(images), {', '.join(map(str, wanted))})"
        if len(given) == 3 and given[0] in (1, 3) and given[2] not in (1, 3):  # the colours come first, as in PyTorch
            turned = (*given[1:], given[0])
            if math.prod(turned) == math.prod(wanted):
                return (" The colours come last here: images.transpose(0, 2, 3, 1)"
                        f"{'' if turned == wanted else '.' + as_wanted}.")
        if math.prod(given) == math.prod(wanted):
            return f" Pictures of another shape: images.{as_wanted}."
        scale = " Scale the pictures to that size (load_images does), or build both networks for theirs: "
        if len(wanted) == 3 and len(given) in (2, 3):
            return f"{scale}build_dcgan({(*given, 1)[:3]})."
        if not given:
            return ""
        pixels = math.prod(given)
        flat = "" if len(given) == 1 else f" with images.reshape(len(images), {pixels})"
        return f"{scale}build_generator(pixels={pixels}) and build_discriminator(pixels={pixels}){flat}."

    def _advice_on_range(self, low, high):
        if low >= 0 and 1 < high <= 20:
            return " Divide them by the highest value that they can have (16 for scikit-learn's digits)."
        if low >= 0 and 20 < high <= 255 and self.draws in ((0, 1), (-1, 1)):
            return " Divide them by 127.5 and subtract 1." if self.draws[0] else " Divide them by 255."
        if self.draws == (0, 1) and -1 <= low and high <= 1:
            return " Bring them there, (images + 1) / 2, or let the generator end in a tanh."
        return ""


def _check_network(name, network):
    if isinstance(network, (tuple, list)):
        raise TypeError(f"{name} is a {'list' if isinstance(network, list) else 'tuple'} of {len(network)}, expected a "
                        "Keras model. Is it the pair? GAN(*pair) takes it apart.")
    if not isinstance(network, keras.Model):
        raise TypeError(f"{name} is {network!r:.60}, expected a Keras model, as of keras.Sequential([...]).")
    if not network.built:
        raise ValueError(f"The {name} does not know the shape of its input yet. Start it with keras.Input(...), for "
                         "example keras.Input((100,)) for noise, or call a model of your own once, on data of that "
                         "shape.")


def _inputs_of(name, network):
    """What a network takes, as specifications: data, and labels or None."""
    if getattr(network, "inputs", None):
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in network.inputs]
    else:  # a model of one's own remembers the shapes it was built with
        shapes = (network.get_build_config() or {}).get("input_shape")
        shapes = [shapes] if isinstance(shapes, tuple) and not isinstance(shapes[0], (tuple, list)) else shapes or ()
        specs = [tf.TensorSpec((None, *shape[1:]), kind) for shape, kind in zip(shapes, ("float32", "int32"))]
    if not 1 <= len(specs) <= 2 or isinstance(getattr(network, "input", None), dict):
        raise ValueError(f"The {name} has {len(specs)} inputs, expected one, noise or data, or two in a list: that "
                         "and labels.")
    return specs[0], specs[1] if len(specs) == 2 else None


_RANGES = {"Sigmoid": (0, 1), "Softmax": (0, 1), "Tanh": (-1, 1), "Relu": (0, math.inf), "Softplus": (0, math.inf),
           "Relu6": (0, 6)}  # a part of hard_sigmoid
_BRING_INTO_SHAPE = (
    "Reshape", "Identity", "Squeeze", "ExpandDims", "Transpose", "Cast", "Mean", "StridedSlice", "EnsureShape",
    "CheckNumericsV2")
_WITH_A_NUMBER = {"Mul": np.multiply, "AddV2": np.add, "Sub": np.subtract, "RealDiv": np.divide,
                  "Maximum": np.maximum, "Minimum": np.minimum}


def _source(tensor):
    """The operation that made a tensor of a graph, seen through those that only bring it into shape."""
    while tensor.op.type in _BRING_INTO_SHAPE:
        tensor = tensor.op.inputs[0]
    return tensor.op


def _range_of(tensor):
    """Between which numbers a tensor of a graph lies, (low, high), and in what it ends: seen from its last operations.

    Each may be followed by arithmetic with a number, as Rescaling does it.
    """
    op = _source(tensor)
    if op.type in _RANGES:
        return *_RANGES[op.type], op.type.lower()
    if op.type in _WITH_A_NUMBER:
        for i, number in enumerate(map(tf.get_static_value, op.inputs)):
            if number is not None and np.size(number) == 1:
                low, high, end = _range_of(op.inputs[1 - i])
                number = number.item()
                arithmetic = _WITH_A_NUMBER[op.type]
                ends = [float(arithmetic(number, x) if i == 0 else arithmetic(x, number)) for x in (low, high)]
                return min(ends), max(ends), "clip" if op.type in ("Maximum", "Minimum") else end
    return -math.inf, math.inf, op.type.lower()


def _rows_for(labels, graph):
    """How many rows the smallest table has in which a graph looks labels up; None where it looks up none."""
    rows = []
    for op in graph.get_operations():
        if op.type == "GatherV2":
            index = _source(op.inputs[1])
            if index.type == "SelectV2":  # Keras counts negative ones from the end
                index = _source(index.inputs[2])
            if index is labels.op:
                rows.append(op.inputs[0].shape[0])
    return min(rows, default=None)


def _said(shape):
    return str(tuple(shape))


def _optimizer_of(network, optimizer, name):
    """A Keras optimiser that has memory for all weights of a network, as Keras's own compile would make it."""
    if isinstance(optimizer, str):
        try:
            optimizer = keras.optimizers.get(optimizer)
        except ValueError:
            raise ValueError(f"{name} is {optimizer!r}, expected an optimiser of Keras, as 'adam' or "
                             "keras.optimizers.Adam(0.001).") from None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(f"{name} is {optimizer!r:.60}, expected an optimiser of Keras, as "
                        "keras.optimizers.Adam(0.001).")
    if network.dtype_policy.name == "mixed_float16" and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    if getattr(optimizer, "gradient_accumulation_steps", None) and tf.distribute.has_strategy():
        raise ValueError(f"{name} accumulates gradients, which Keras cannot do on several replicas. Leave "
                         "gradient_accumulation_steps out, and let each replica have a smaller minibatch.")
    weights = network.trainable_variables
    if not optimizer.built and weights:
        optimizer.build(weights)  # now: a compiled function cannot make variables when it is called a second time
    known = {id(weight) for weight in getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables}
    if not known >= {id(weight) for weight in weights}:
        raise ValueError(f"{name} belongs to other weights: it was built for another network, or while layers of this "
                         "one were frozen. Each network needs an optimiser of its own, made anew: "
                         "keras.optimizers.Adam(0.001).")
    return optimizer


_seen = {}  # id of an array or a tensor -> a weak reference to it, some of its rows, and what became of it


def _as_tensor(x):
    """Data as a float32 tensor, and their lowest and highest value; NaN or infinite where they hold such a number.

    For large arrays that is remembered, since to copy and to look at all of MNIST takes longer than many an
    alternation.  A change of such an array in place is noticed by a thousand of its rows.
    """
    if isinstance(x, tf.Variable):
        x = x.read_value()  # as it is now: it can be assigned to without a trace
    if not isinstance(x, (tf.Tensor, np.ndarray)):
        x = _array_of(x)
    if not _is_numeric(x.dtype):
        objects = isinstance(x, np.ndarray) and x.dtype == object and x.size
        what = f"Python objects ({type(x.flat[0]).__name__})" if objects else x.dtype
        raise TypeError(f"images hold {what}, expected float32: one array of numbers, [n, ...].")
    large = x.shape and math.prod(x.shape) > 10**6
    if not large:
        return _copied_and_measured(x)
    rows = None if tf.is_tensor(x) else x[::max(1, len(x) // 1000)].copy()
    known, known_rows, result = _seen.get(id(x), (lambda: None, None, None))
    if known() is not x or (rows is not None and not np.array_equal(rows, known_rows)):
        result = _copied_and_measured(x)
        key = id(x)
        forget = functools.partial(_seen.pop, key, None)  # bound now: at Python's end `_seen` may be gone before x
        _seen[key] = weakref.ref(x, lambda _: forget()), rows, result
    return result


def _copied_and_measured(x):
    tensor = tf.cast(x if tf.is_tensor(x) else tf.identity(x.astype(np.float32, copy=False)), tf.float32)
    values = tensor.numpy()  # on a processor that copies nothing
    return tensor, *((float(values.min()), float(values.max())) if values.size else (0.0, 0.0))  # or NaN if one is NaN


def _is_numeric(dtype):
    """Whether a type, of NumPy or TensorFlow, is one of real numbers."""
    if isinstance(dtype, tf.DType):
        return dtype.is_floating or dtype.is_integer or dtype.is_bool
    return dtype.kind in "fiub"


def _array_of(x):
    """Data that came as something else than an array, or an error that names it."""
    cures = {
        Digits: "pass its pictures: digits.train_images",
        str: "read the pictures: load_images(folder)", Path: "read the pictures: load_images(folder)",
        tuple: "pass the pictures alone, or fit(images, labels) for a conditional pair",
        type(None): "expected an array or a tf.data.Dataset",
        Mapping: "pass the pictures in it, as images[key]",
        tf.SparseTensor: "tf.sparse.to_dense(images)",
    }
    said = f"images are {type(x).__name__}, expected one array [n, ...]"
    for kind, cure in cures.items():
        if isinstance(x, kind):
            raise TypeError(f"{said}: {cure}.")
    if hasattr(x, "toarray"):
        raise TypeError(f"{said}: images.toarray().")
    is_array = hasattr(x, "__array__") or hasattr(x, "__array_interface__") or isinstance(x, (list, numbers.Number))
    if not is_array or isinstance(x, keras.KerasTensor):
        raise TypeError(f"{said} or a tf.data.Dataset: np.concatenate(list(batches)), or "
                        "tf.data.Dataset.from_generator(...).")
    if isinstance(x, list) and x and isinstance(x[0], (str, Path)):
        raise TypeError(f"images are {type(x[0]).__name__} in a list, expected one array [n, ...]: {cures[str]}.")
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError("images are a list of parts of unequal size, expected one array [n, ...]. Scale pictures to "
                         "one size first (load_images does); join minibatches with np.concatenate(images); pass labels "
                         f"beside the pictures, fit(images, labels). ({error})") from None


def _made(part, config):
    """A part of a saved GAN from its configuration."""
    try:
        return keras.saving.deserialize_keras_object(config)
    except Exception as error:
        raise ValueError(_cannot_be_made(part, config, error)) from None


def _cannot_be_made(part, config, error):
    """What to do where Keras cannot make a part of a saved GAN; its own words hold the whole configuration."""
    if "Lambda" in str(error) and "safe_mode" in str(error):
        cure = ("It has a Lambda layer, whose code Keras runs only if you trust the file: "
                "keras.saving.load_model(path, safe_mode=False). A Layer class of your own would be safer.")
    elif "activation function identifier" in str(error):
        cure = ("A lambda as an activation cannot be read from a file. Build the pair anew, with a named function, and "
                "take the weights: gan.load_weights(path).")
    elif (own := sorted(_of_ones_own(config))) and "Could not locate" in str(error):
        passed = ", ".join(f"{name!r}: {name.split('>')[-1]}" for name in own)
        cure = (f"It has {_listed(own)}, which Python does not find by itself here. Define or import it, and pass it: "
                f"keras.saving.load_model(path, custom_objects={{{passed}}}).")
    elif own:
        cure = (f"Keras does not get {_listed(own)} from what get_config returned. Let it return all arguments of "
                "__init__, and let __init__ take **kwargs and pass them on: super().__init__(**kwargs).")
    else:
        cure = "It may have been saved with another version of Keras."
    return f"The {part} of this GAN cannot be made from the file. {cure} ({_line(error, -1):.200})"


def _line(error, which=0):
    """One line of an error's words, the first or the last; its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[which]


def _of_ones_own(config):
    """The names of all classes and functions in a Keras configuration that are not Keras's."""
    names = set()
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, (list, tuple)) else ():
        names |= _of_ones_own(value)
    if isinstance(config, dict) and config.get("class_name") == "function":
        names.add(config["config"])
    elif isinstance(config, dict) and "class_name" in config and "builtins" not in str(config.get("module")):
        if not str(config.get("module") or "keras").startswith("keras") or config.get("registered_name"):
            names.add(config["class_name"])
    return names


# ---------------------------------------------------------------------------------------------------------
# Scores
# ---------------------------------------------------------------------------------------------------------


class Scorer:
    """A small classifier of digits, and the scores that rest on it.

    digits: `Digits`; the classifier learns from their training images, in some ten seconds; what is scored is compared
        with their test images
    seed: of its weights and of the order of the images
    classifier: one of your own in its place: a trained Keras Sequential, or any Keras model that ends in two layers one
        after the other: the features, and a Dense layer without activation that makes a logit for each class of them
    accuracy: the share of the test images that it names rightly

    Raises ValueError for a classifier that does not end so.
    """

    _MINIBATCHES, _MINIBATCH = 1_000, 64

    def __init__(self, digits, seed=0, classifier=None):
        self.classifier = self._trained(digits, seed) if classifier is None else classifier
        *_, before, last = self.classifier.layers
        if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.linear:
            raise ValueError(f"The classifier ends in {last.name!r}, expected a Dense layer without activation: its "
                             "logits.")
        self._features, self._logits = keras.Model(self.classifier.inputs, before.output), last
        order = np.random.default_rng(seed).permutation(len(digits.test_images))  # MNIST's neater digits come first
        features = self.features(digits.test_images)
        self._real = features[order]
        self.accuracy = float(np.mean(self._probabilities(features).argmax(axis=1) == digits.test_labels))

    def _trained(self, digits, seed):
        seeds = iter(_layer_seeds(seed, 2, 4))
        layers = keras.layers

        def weights():
            return keras.initializers.GlorotUniform(next(seeds))

        classifier = keras.Sequential([
            keras.Input((784,)), layers.Reshape((28, 28, 1)),
            layers.Conv2D(16, 5, 2, "same", activation="relu", kernel_initializer=weights()),
            layers.Conv2D(32, 5, 2, "same", activation="relu", kernel_initializer=weights()),
            layers.Flatten(), layers.Dense(64, activation="relu", kernel_initializer=weights(), name="features"),
            layers.Dense(10, kernel_initializer=weights()),
        ], name="classifier")
        classifier.compile(keras.optimizers.Adam(0.002), keras.losses.SparseCategoricalCrossentropy(True))
        rows = np.random.default_rng(seed).integers(len(digits.train_images), size=self._MINIBATCHES * self._MINIBATCH)
        classifier.fit(digits.train_images[rows], digits.train_labels[rows], batch_size=self._MINIBATCH,
                       shuffle=False, verbose=0)
        return classifier

    def probabilities(self, images):
        """How probable the classifier finds each digit for each of the images: float64 [n, 10], rows of sum 1."""
        return self._probabilities(self.features(images))

    def labels(self, images):
        """Which digit each of the images [n, 784] or [n, 28, 28, 1] is taken for: int64 [n], 0 to 9."""
        return self.probabilities(images).argmax(axis=1)

    def shares(self, images):
        """Which share of the images is taken for a 0, for a 1, ..., for a 9: float64 [10], of sum 1."""
        return self._shares(self.probabilities(images))

    def features(self, images):
        """What the classifier's last hidden layer makes of the images: float32 [n, 64], at least 0."""
        images = np.reshape(images, (len(images), *self.classifier.input_shape[1:]))
        return self._features.predict(images, batch_size=1000, verbose=0)

    def distance(self, images):
        """The Fréchet distance between the features of these images and of the test images; at least 0, less is better.

        It falls with the number of images even where they are as good: compare equal numbers.  3 000 of MNIST's
        training images score about 0.9.
        """
        return frechet_distance(self.features(images), self._real)

    def scores(self, images):
        """All scores of these images, name -> number:

        "distance": as `distance` says
        "precision": which share of them is like a real one, "recall": which share of the real ones is like one of them,
            as `precision_and_recall` says, from the first of them and as many test images, drawn at random
        "kinds": how many digits they amount to, e to the entropy of their shares: 1 to 10
        "confidence": the probability of the digit that each is taken for, on average

        All but "confidence" depend on the number of images: compare equal numbers.
        """
        return self._scores(self.features(images))

    def errors(self, images, resamples=20, seed=0):
        """The standard error of each of the `scores`, name -> number: what another draw of as many images may change.

        It is the spread of the scores of random halves of the images, drawn without replacement: half of them vary by
        sqrt(2) more than all would, and halves that overlap by sqrt(2) less.  (A bootstrap that draws with replacement
        has twins, to which the nearest neighbours in "recall" are blind.)  The test images and the classifier stay
        the same, and so does the generator: what others of these would change is not in it.

        Raises ValueError for fewer than 8 images, or fewer than 2 resamples.
        """
        if len(images) < 8:
            raise ValueError(f"errors has {len(images)} images, expected at least 8: in each half of them an image "
                             "needs three neighbours.  Draw more.")
        if resamples < 2:
            raise ValueError(f"resamples is {resamples}, expected at least 2: the error is the spread of that many "
                             "scores.")
        features, rng = self.features(images), np.random.default_rng(seed)
        halves = [self._scores(features[rng.permutation(len(features))[:len(features) // 2]]) for _ in range(resamples)]
        return {name: float(np.std([half[name] for half in halves], ddof=1)) for name in halves[0]}

    def _scores(self, features):
        probabilities, n = self._probabilities(features), min(len(features), len(self._real))
        shares = self._shares(probabilities)
        precision, recall = precision_and_recall(features[:n], self._real[:n])
        return {"distance": frechet_distance(features, self._real), "precision": precision, "recall": recall,
                "kinds": float(np.exp(-np.sum(shares * np.log(shares.clip(1e-300))))),
                "confidence": float(probabilities.max(axis=1).mean())}

    def _probabilities(self, features):
        logits = np.asarray(self._logits(features), np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    @staticmethod
    def _shares(probabilities):
        return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1]) / len(probabilities)


def frechet_distance(a, b):
    """|m_a - m_b|^2 + trace(S_a + S_b - 2 (S_a S_b)^1/2), of the means m and covariances S of features [n, d], [m, d].

    That is the *squared* Fréchet or Wasserstein-2 distance between two Gaussians with these means and covariances
    (Dowson and Landau 1982).  Heusel et al. 2017 score GANs by it, and leave it squared, too.
    """
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(s_a @ s_b).real.clip(0)).sum()  # its trace: the eigenvalues are never below 0
    return max(0.0, float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(s_a + s_b) - 2 * root))


def precision_and_recall(fake, real, k=3):
    """The share of fake points within the balls of real ones, and of real points within those of fake ones.

    fake, real: features [n, d], [m, d].  The ball of a point reaches as far as its k-th nearest neighbour among its own
    kind (Kynkäänniemi et al. 2019, section 2).  Both depend on n and m: compare equal numbers.  A point far from all
    others has a large ball, which may hold what is like none of them, even noise: look at another score, too.  And the
    ball of a point that has k twins is empty.

    Raises ValueError where there are not more than k points of a kind.
    """
    from sklearn.metrics import pairwise_distances_chunked

    if min(len(fake), len(real)) <= k:
        raise ValueError(f"There are {len(fake)} fake and {len(real)} real points, expected more than k = {k} of each.")

    def reach(distances, _):
        return np.partition(distances, k, axis=1)[:, k]  # the nearest point is the centre itself

    def within(points, centres):
        radii = np.concatenate(list(pairwise_distances_chunked(centres, reduce_func=reach)))
        chunks = pairwise_distances_chunked(points, centres, reduce_func=lambda d, _: (d <= radii).any(axis=1))
        return float(np.concatenate(list(chunks)).mean())

    return within(fake, real), within(real, fake)


# ---------------------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------------------

# One colour for one thing in every figure (Okabe-Ito); dashes differ too, so that they read without colour.
REAL = {"color": "black", "linestyle": ":"}
GENERATED = {"color": "#009E73", "linestyle": "-"}
DISCRIMINATOR = {"color": "#0072B2", "linestyle": "--"}
GRADIENT = {"color": "#D55E00", "linestyle": "-."}

_DPI = 110

# A learner's own style, a dark one perhaps, is for the learner's own figures: ours are drawn on white.
_STYLE = {name: value for name, value in matplotlib.rcParamsDefault.items() if name.split(".")[0] in (
    "_internal", "axes", "figure", "font", "grid", "image", "legend", "lines", "markers", "mathtext", "patch", "path",
    "savefig", "scatter", "text", "xtick", "ytick")}
_style_lock, _set_aside = threading.Lock(), []


@contextlib.contextmanager
def _our_style():
    """Matplotlib's default settings, until the last thread that draws such a figure is done."""
    with _style_lock:
        _set_aside.append({name: matplotlib.rcParams[name] for name, value in _STYLE.items()
                           if matplotlib.rcParams[name] != value})
        matplotlib.rcParams.update({name: _STYLE[name] for name in _set_aside[-1]})
    try:
        yield
    finally:
        with _style_lock:
            own = _set_aside.pop()
            if not _set_aside:
                matplotlib.rcParams.update(own)


def draw_images(axes, images, columns=10, title=None, headings=(), shape=None, cmap="gray_r", names=()):
    """Draw pictures on Matplotlib axes, `columns` to a row under their headings; as in `show_images`."""
    _check_count("columns", columns)
    pictures = _pictures(images, shape)
    _, height, width, *colors = pictures.shape
    rows = math.ceil(len(pictures) / columns)
    if len(names) not in (0, rows):
        raise ValueError(f"There are {len(names)} names for {rows} rows of pictures, expected one for each.")
    paper = 1.0 if colors or cmap != "gray_r" else 0.0  # white
    sheet = np.full((rows * columns, height + 2, width + 2, *colors), paper, np.float32)
    sheet[:len(pictures), 1:-1, 1:-1] = np.clip(pictures, 0, 1)  # each in a frame of one pixel of paper
    sheet = sheet.reshape(rows, columns, height + 2, width + 2, *colors).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (height + 2), columns * (width + 2), *colors)
    axes.imshow(sheet, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    for column, heading in enumerate(headings):
        axes.text((column + 0.5) * (width + 2), -2, heading, ha="center", va="bottom", fontsize=9)
    for row, name in enumerate(names):
        axes.text(-0.25 * width, (row + 0.5) * (height + 2), name, ha="right", va="center", fontsize=9)
        axes.set_anchor("E")  # what room is left over goes to the names
    if title:
        axes.set_title(title, pad=18 if headings else 6)


@_our_style()
def show_images(images, columns=10, title=None, headings=(), shape=None, cmap="gray_r", names=()):
    """Show pictures under the cell, `columns` to a row under their headings, each row after its name.

    images: [n, height, width], [n, height, width, 1 or 3], or [n, pixels] of square grey pictures, within [0, 1]
    shape: of one picture, (height, width) or (height, width, 3), where [n, pixels] are others
    cmap: of grey pictures; "gray_r": 0 is paper and 1 is ink, as in MNIST; "gray": 0 is black and 1 is white

    Raises ValueError for other shapes, for values outside [0, 1], and where the names are not as many as the rows.
    """
    _check_count("columns", columns)
    pictures, left = _pictures(images, shape), max((0.25 + 0.08 * len(name) for name in names), default=0)
    width = min(0.72, (8.6 - left) / columns)
    height = width * (pictures.shape[1] + 2) / (pictures.shape[2] + 2)
    rows = math.ceil(len(pictures) / columns)
    figure = _figure(width * columns + left, height * rows + 0.3 * bool(title) + 0.25 * bool(headings))
    draw_images(figure.add_subplot(), images, columns, title, headings, shape, cmap, names)
    _show(figure, title or "pictures")


def _pictures(images, shape=None):
    """Pictures as [n, height, width] or [n, height, width, 3], or an error that says what to do."""
    images = np.asarray(images)
    given, pixels, single = list(images.shape), math.prod(images.shape[1:]), "For a single picture: images[None]."
    if shape is None and images.ndim == 2:
        shape = (math.isqrt(pixels),) * 2
        if pixels < 4 or math.prod(shape) != pixels:
            raise ValueError(f"images have the shape {given}, which are no square grey pictures. Say the shape of one: "
                             f"shape=(height, width) or shape=(height, width, 3). {single}")
    elif shape is None and images.ndim == 3 and images.shape[1] > 3 and images.shape[2] in (1, 3):
        raise ValueError(f"images have the shape {given}, expected [n, height, width] or [n, height, width, 1 or 3]. "
                         f"{single}")
    if shape is not None:
        if math.prod(shape) != pixels:
            raise ValueError(f"images have the shape {given}, which are {pixels} numbers to a picture, but "
                             f"shape={tuple(shape)} takes {math.prod(shape)}.")
        images = images.reshape(len(images), *shape)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or images.ndim == 4 and images.shape[3] != 3 or not images.size:
        raise ValueError(f"images have the shape {given}, expected [n, height, width], [n, height, width, 1 or 3] or "
                         f"[n, pixels], with n of at least 1.{' ' + single if images.ndim == 1 else ''}")
    low, high = images.min(), images.max()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        advice = (" Divide them by 255." if 0 <= low and 1 < high <= 255 else
                  " From a generator that ends in a tanh: (images + 1) / 2." if -1 <= low and high <= 1 else "")
        raise ValueError(f"images hold values from {low:g} to {high:g}, expected [0, 1].{advice}")
    return images


class LivePicture(keras.callbacks.Callback):
    """A picture under the cell that follows a training run: pictures, the two losses, mean D(x) and mean D(G(z)).

        gan.fit(images, epochs=40, steps_per_epoch=250, callbacks=[LivePicture()])

    It is drawn anew at each report, and shows what the same 42 samples of noise become.

    labels: of these 42, for a conditional pair: where each row of 7 has one label, it stands before the row
    shape, cmap: as in `show_images`

    Raises ValueError when training begins, where what the generator draws is no picture.
    """

    def __init__(self, labels=None, shape=None, cmap="gray_r"):
        super().__init__()
        self._labels, self._shape, self._cmap = labels, shape, cmap

    def on_train_begin(self, logs=None):
        self._alternations, self._reports = [], []

    @_our_style()
    def on_epoch_begin(self, epoch, logs=None):
        if self._reports:
            return
        steps = self.params["steps"]
        self._last = self.model.alternations + (self.params["epochs"] - epoch) * steps if steps else 0
        self._display = _show(self._draw(), "before training", display_id=True)

    @_our_style()
    def on_epoch_end(self, epoch, logs=None):
        self._alternations.append(self.model.alternations)
        self._reports.append(logs)
        if self._display:  # outside of notebooks there is none
            self._display.update(_image(self._draw(), f"alternation {self.model.alternations}"))

    def _draw(self):
        reports, now = self._reports, self.model.alternations
        figure = _figure(8.6, 4.3)
        left, right = figure.subfigures(1, 2)
        speed = f"  ·  {reports[-1]['per_second']:.0f} per second" if reports else ""
        goal = f" of {self._last:,}" if self._last else ""
        pictures, rows = self._drawn(), np.resize(self._labels, (6, 7)) if np.shape(self._labels) == (42,) else None
        one_each = rows is not None and (rows == rows[:, :1]).all()
        draw_images(left.add_subplot(), pictures, 7, f"alternation {now:,}{goal}{speed}",
                    shape=self._shape, cmap=self._cmap, names=[str(row[0]) for row in rows] if one_each else ())
        losses, scores = right.subplots(2, sharex=True)

        def plot(axes, name, style, label):
            axes.plot(self._alternations, [report[name] for report in reports], **style, label=label)

        plot(losses, "d_loss", DISCRIMINATOR, "discriminator's loss")
        plot(losses, "g_loss", GENERATED, "generator's loss")
        if self.model.loss.name in ("log", "logistic"):  # where the two losses would be at the end of the game
            for style, level, name, side in ((DISCRIMINATOR, 2 * math.log(2), "D: 2 log 2", "bottom"),
                                             (GENERATED, math.log(2), "G: log 2", "top")):
                losses.axhline(level, color=style["color"], linewidth=0.8, alpha=0.6)
                losses.annotate(name, (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
                                textcoords="offset points", va=side, fontsize=9)
        seen = [report[name] for report in reports for name in ("d_loss", "g_loss")]
        losses.set(ylim=(1.05 * min([0, *seen]), 1.05 * max([6, *seen])), ylabel="loss")
        plot(scores, "d_real", REAL, "mean D(x)")
        plot(scores, "d_fake", GENERATED, "mean D(G(z))")
        scores.set(ylim=(0, 1), ylabel="probability", xlim=(0, max(self._last, now, 1)), xlabel="alternation")
        scores.locator_params(axis="x", nbins=5)  # numbers of six digits would run into each other
        losses.legend(loc="upper right", fontsize=8)
        scores.legend(loc="best", fontsize=8)
        return figure

    def _drawn(self):
        """42 generated pictures, brought to [0, 1]."""
        conditional, labels = self.model._pair.labels_spec is not None, self._labels
        if conditional != (labels is not None) or np.shape(labels)[:1] not in ((), (42,)):
            came = "no labels" if labels is None else f"labels of the shape {list(np.shape(labels))}"
            raise ValueError(f"LivePicture has {came}, expected "
                             + ("one for each of its 42 pictures, or one for all: LivePicture(labels=...)."
                                if conditional else "none, since this pair is not conditional: LivePicture()."))
        images, (low, high) = self.model.generate(42, seed=1, labels=labels), self.model.draws or (0, 1)
        return ((images - low) / (high - low) if math.isfinite(high) else images).clip(0, 1)


@_our_style()
def film(frames, titles, columns=10, shape=None, cmap="gray_r"):
    """A film to play back without a kernel: each frame is pictures, as in `show_images`, under its title.

    Where no script may run, its last frame is shown.
    """
    _check_count("columns", columns)
    _check_count("the number of frames", len(frames))
    if len(titles) != len(frames):
        raise ValueError(f"There are {len(titles)} titles for {len(frames)} frames, expected one for each.")
    _, height, width, *_ = _pictures(frames[0], shape).shape
    rows = math.ceil(len(frames[0]) / columns)
    size = 0.5 * columns, 0.5 * rows * height / width + 0.4
    pictures = []
    for images, title in zip(frames, titles):
        figure = _figure(*size)
        draw_images(figure.add_subplot(), images, columns, title, shape=shape, cmap=cmap)
        pictures.append((_png(figure), title))
    still = _img(*pictures[-1], *size)
    scenes = json.dumps([[base64.b64encode(png).decode(), title] for png, title in pictures])
    return HTML(f'<div>{still}<p>The film plays when this cell was run.</p>'
                f'<script>{_PLAYER.replace("SCENES", scenes)}</script></div>')


_PLAYER = """(() => {
  const [image, bar] = document.currentScript.parentElement.children, scenes = SCENES, last = scenes.length - 1;
  bar.innerHTML = `<button type="button">▶ Play</button> <input type="range" aria-label="frame" min="0" max="${last}"
    value="${last}" style="width: 60%; vertical-align: middle">`;
  const [play, frame] = bar.children;
  let timer = null;
  const show = i => {
    frame.value = i;
    [image.src, image.alt] = ["data:image/png;base64," + scenes[i][0], scenes[i][1]];
  };
  const pause = () => { clearInterval(timer); timer = null; play.textContent = "▶ Play"; };
  const step = () => +frame.value < last ? show(+frame.value + 1) : pause();
  play.onclick = () => {
    if (timer) return pause();
    if (+frame.value === last) show(0);
    timer = setInterval(step, 250);
    play.textContent = "❚❚ Pause";
  };
  frame.oninput = () => { pause(); show(+frame.value); };
})();"""


def _figure(width, height):
    """A white figure of `width` x `height` inches that no other thread knows of, as pyplot's would be."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(figure, alt, **options):
    return display(_image(figure, alt), **options)


def _image(figure, alt):
    return Image(_png(figure), width=round(100 * figure.get_figwidth()), alt=alt)


def _img(png, alt, width, height):
    """HTML for a picture of so many inches, with an alternative text."""
    data = base64.b64encode(png).decode()
    return (f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" width="{100 * width:.0f}" '
            f'height="{100 * height:.0f}" decoding="sync" style="max-width: 100%; height: auto">')


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


def watch(start, advance, draw, size=(8.6, 3.6), still=None, **knobs):
    """A training run with Start, Pause, Step and Reset, over a picture that follows it while the notebook stays free.

    start(): returns a fresh run, whatever it is; called at once, and by Reset
    advance(run, **values): trains one slice of it, some 20 to 100 ms, with the values that the knobs have then
    draw(figure, run): draws it on an empty Matplotlib figure, and returns one sentence
    size, knobs: as in `explore`
    still(figure): as `draw`, what a viewer without widgets shows instead of the run's first picture

    One run goes on at a time: a new one, or a second Start, pauses the others.  An error in a slice stops the run and
    is shown under the picture.  A run that nobody touches for ten minutes pauses.  Where `start` gives the same GAN
    its first weights back (`gan.state`), Reset compiles nothing.
    """
    return _Watcher(start, advance, draw, size, still, knobs)


class _Picture(widgets.VBox):
    """Controls (name -> widget) above a picture of constant size, `png`, and the sentence that goes with it, `said`."""

    _still = None  # draws what a viewer without widgets shows, if that is another picture
    _ipython_display_ = None  # ipywidgets 7 would show itself by it, and leave out the picture for other viewers

    def __init__(self, size, controls, *buttons):
        self._size, self._buttons, self._lock = size, buttons, threading.Lock()
        self._note = "" if _listens_while_cells_run() else " (It answers once the cells that run now are done.)"
        self.controls = {name: _control(name, control) for name, control in controls.items()}
        _align(self.controls.values())
        width = f"{100 * size[0]:.0f}px"
        knobs = widgets.Box(list(self.controls.values()), layout={"flex_flow": "row wrap", "max_width": width})
        # HTML in place of Image, which has no alternative text; and room for four lines, so that nothing jumps.
        self._picture = widgets.HTML()
        self._sentence = widgets.HTML(layout={"min_height": "76px", "width": width, "max_width": "100%"})
        super().__init__([*([widgets.HBox(buttons)] if buttons else []), knobs, self._picture, self._sentence])

    @property
    def values(self):
        return {name: control.value for name, control in self.controls.items()}

    @_our_style()
    def _show(self, draw, as_before=False):
        """Draw; `as_before` puts the axes where they were, which saves the time to lay them out."""
        self._draw_now = draw
        figure = _figure(*self._size)
        said = draw(figure)
        if as_before and len(figure.axes) == len(self._places):
            figure.set_layout_engine("none")
            for axes, place in zip(figure.axes, self._places):
                axes.set_position(place)
        self.png = _png(figure)
        self._places = [axes.get_position(original=True) for axes in figure.axes]
        self._picture.value = _img(self.png, said, *self._size)
        self._say(said)

    def _say(self, said):
        """Put a sentence under the picture, where screen readers are told of it."""
        self.said = said
        self._sentence.value = f'<div role="status" style="line-height: 1.4">{html.escape(said)}{self._note}</div>'

    def _say_what_went_wrong(self, error):
        """The message first, in JupyterLab's own colours, and folded under it where in the code that was."""
        self.said = f"{type(error).__name__}: {error}"
        where = html.escape(traceback.format_exc(limit=-3))
        self._sentence.value = f"""<div role="alert" style="line-height: 1.4; padding-left: 8px; border-left: 4px solid
            var(--jp-error-color1, #b00020); color: var(--jp-content-font-color1, inherit)">{html.escape(self.said)}
            <details><summary style="cursor: pointer">Where in the code</summary>
            <pre style="white-space: pre-wrap">{where}</pre></details></div>"""

    @contextlib.contextmanager
    def _errors_shown(self):
        try:
            yield
        except Exception as error:
            self._say_what_went_wrong(error)
            raise

    @_our_style()
    def _repr_mimebundle_(self, **kwargs):
        width, height = self._size
        figure = _figure(width, height + 0.6)  # for viewers without widgets: the sentence is in the picture
        said = (self._still or self._draw_now)(figure)
        figure.supxlabel(textwrap.fill(said, 120), x=0.01, ha="left", fontsize=10)
        for control in (*self.controls.values(), *self._buttons):
            # ipykernel 7.4 sends what a browser says to the thread that spoke last, here the busy one.
            vars(control.comm).pop("_reply_subshell_id", None)
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
        if change is not None:
            self._note = ""
        with self._lock, self._errors_shown():
            self._show(lambda figure: self._draw(figure, **self.values), as_before=change is not None)


class _Watcher(_Picture):
    """`run` is what `start` returned; `running` says whether it goes on by itself; `error` is what stopped it."""

    _all = weakref.WeakSet()

    def __init__(self, start, advance, draw, size, still, knobs):
        actions = {"Start": self.start, "Pause": self.pause, "Step": self.step, "Reset": self.reset}
        self.buttons = {name: widgets.Button(description=name) for name in actions}
        super().__init__(size, knobs, *self.buttons.values())
        self._start, self._advance, self._draw, self._still = start, advance, draw, still
        self.error = None
        self.pause_all()
        self._all.add(self)
        self.reset()
        for name, action in actions.items():
            self.buttons[name].on_click(lambda _, action=action: self._touched(action))
        for control in self.controls.values():
            control.observe(lambda _: self._touched(), names="value")
        _pause_all_on_interrupt()

    @property
    def running(self):
        return self._running

    @running.setter
    def running(self, token):
        self._running = token
        self.buttons["Start"].disabled, self.buttons["Pause"].disabled = bool(token), not token

    def _touched(self, action=lambda: None):
        self._last_touch, self._note = time.monotonic(), ""
        action()

    def start(self):
        """Go on, in the background, until `pause`, an error, or ten minutes in which nobody touches it."""
        self.pause_all()
        with self._lock:  # held while a slice runs: an older thread of this run has then seen that it is to stop
            self.running, self._last_touch = object(), time.monotonic()
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
        before_compiling = _before_compiling.set(lambda: self._say("Compiling, a few seconds …"))
        try:
            with self._errors_shown():
                self._advance(self.run, **self.values)
                self._show(lambda figure: self._draw(figure, self.run), as_before=True)
        except Exception as error:
            self.error, self.running = error, False
            raise
        finally:
            _before_compiling.reset(before_compiling)

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
                if began - self._last_touch > FORGOTTEN_AFTER:
                    self.pause()
                    self._say(f"{self.said} Nobody has touched this for {FORGOTTEN_AFTER // 60} minutes, so it paused. "
                              "Press Start to go on.")
            time.sleep(max(0.005, 0.05 - (time.monotonic() - began)))  # at most 20 pictures a second


FORGOTTEN_AFTER = 600  # seconds


def _listens_while_cells_run():
    """Whether controls can answer while a cell runs: since ipykernel 7; in a script there is nobody to ask."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is None or "kernel subshells" in kernel.kernel_info.get("supported_features", ())


def _pause_all_on_interrupt():
    """Let the interrupt button pause what runs in the background: a kernel that runs no cell ignores the button."""
    with contextlib.suppress(RuntimeError):  # outside of a kernel there is no loop, and no button
        # Later, since the kernel sets its own handler back at the end of a cell.
        asyncio.get_running_loop().call_later(1, signal.signal, signal.SIGINT, _on_interrupt)


def _on_interrupt(_, frame):
    if any(outer.f_code is InteractiveShell.run_code.__code__ for outer, _ in traceback.walk_stack(frame)):
        raise KeyboardInterrupt  # a cell runs, and is what the button is meant for
    _Watcher.pause_all()


def _control(name, control):
    """The widget for one value, with a label."""
    if not isinstance(control, widgets.Widget):
        given, control = control, widgets.interactive.widget_from_abbrev(control)
        if control is None:
            raise ValueError(f"{name} is {given!r}, expected a widget, (low, high), (low, high, step), a bool or a "
                             "list.")
    control.description = control.description or name.replace("_", " ")
    return control


def _align(controls):
    """Give all labels the width of the longest, so that none is cut off; more than two controls go in two columns."""
    longest = max((len(control.description) for control in controls), default=0)
    for control in controls:
        if isinstance(control, widgets.Checkbox):
            control.style.description_width = "initial"
        else:
            control.style.description_width = f"{longest}ch"
            control.layout.width = "500px" if len(controls) <= 2 else "420px"
