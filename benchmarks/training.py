"""How many alternations a second each way of writing the article's training reaches, in one run and in turn.

An alternation is one step of the discriminator and one of the generator, batch 128, networks 100-128-784 and
784-128-1, Adam, on 60 000 pictures.  `make bench` runs this.  Ratios are medians over the rounds, each ratio taken
within one round, so that a machine that is slower for a while slows down both sides of it.
"""

import statistics
import subprocess
import sys
import time

import gan_lib  # before TensorFlow, whose log messages it silences
import keras
import numpy as np
import tensorflow as tf

BATCH, NOISE, HIDDEN, PIXELS, IMAGES = 128, 100, 128, 784, 60_000
ROUNDS = 9
SECONDS_A_ROUND = 3.0
RNG = np.random.default_rng(0)


def session_with_feed_dict(images):
    """The article's way: a TensorFlow 1 graph and its variables, run by a session, all data fed from NumPy."""
    v1 = tf.compat.v1

    def layer(inputs, outputs):
        weights = v1.random_normal([inputs, outputs], stddev=(2 / inputs) ** 0.5)
        return v1.Variable(weights, use_resource=False), v1.Variable(tf.zeros([outputs]), use_resource=False)

    with tf.Graph().as_default():
        x, z = v1.placeholder(tf.float32, [None, PIXELS]), v1.placeholder(tf.float32, [None, NOISE])
        g1, g2, d1, d2 = layer(NOISE, HIDDEN), layer(HIDDEN, PIXELS), layer(PIXELS, HIDDEN), layer(HIDDEN, 1)

        def two_layers(inputs, first, second):
            return tf.nn.relu(inputs @ first[0] + first[1]) @ second[0] + second[1]

        d_real = tf.sigmoid(two_layers(x, d1, d2))
        d_fake = tf.sigmoid(two_layers(tf.sigmoid(two_layers(z, g1, g2)), d1, d2))
        d_loss = -tf.reduce_mean(tf.math.log(d_real) + tf.math.log(1 - d_fake))
        g_loss = -tf.reduce_mean(tf.math.log(d_fake))
        d_solver = v1.train.AdamOptimizer().minimize(d_loss, var_list=[*d1, *d2])
        g_solver = v1.train.AdamOptimizer().minimize(g_loss, var_list=[*g1, *g2])
        session = v1.Session()
        session.run(v1.global_variables_initializer())

    next_batch = batches(images)

    def run(steps):
        for _ in range(steps):
            session.run([d_solver, d_loss], {x: next(next_batch), z: noise()})
            session.run([g_solver, g_loss], {z: noise()})

    return run


def function_per_step(images):
    """The usual tutorial of today: one alternation compiled by tf.function, its batch fed from NumPy."""
    gan = gan_lib.GAN()

    @tf.function
    def alternate(x, z_for_d, z_for_g):
        return gan.discriminator_step(x, z_for_d), gan.generator_step(z_for_g)

    next_batch = batches(images)

    def run(steps):
        for _ in range(steps):
            alternate(next(next_batch), noise().astype(np.float32), noise().astype(np.float32))

    return run


class KerasGAN(keras.Model):
    """A GAN for Keras's fit, its train_step overridden as in Keras's own examples."""

    def __init__(self):
        super().__init__()
        self.gan = gan_lib.GAN()

    def train_step(self, x):
        d_loss, *_ = self.gan.discriminator_step(x, tf.random.uniform([BATCH, NOISE], -1, 1))
        return {"d_loss": d_loss, "g_loss": self.gan.generator_step(tf.random.uniform([BATCH, NOISE], -1, 1))}


def keras_fit(images, steps_per_execution):
    model = KerasGAN()
    model.compile(steps_per_execution=steps_per_execution)
    data = tf.data.Dataset.from_tensor_slices(images).shuffle(IMAGES).batch(BATCH, drop_remainder=True).repeat()
    return lambda steps: model.fit(data, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)


def gan_lib_train(images):
    gan, tensor = gan_lib.GAN(), tf.identity(images)
    return lambda steps: list(gan_lib.train(gan, tensor, steps, report_every=min(steps, 500)))


def matrix_products(images):
    """Nothing but the matrix products of an alternation, one kind after another, by TensorFlow's own kernel."""

    @tf.function
    def repeat(a, b, times):
        product = tf.matmul(a, b)
        for _ in tf.range(times - 1):
            product = tf.matmul(a, b)
        return product

    made = [(count, tf.random.normal([m, k]), tf.random.normal([k, n])) for count, m, k, n in PRODUCTS]

    def run(steps):
        for count, a, b in made:
            repeat(a, b, tf.constant(count * steps)).numpy()

    return run


# How many, rows, inner, columns: G twice forward (4), D forward on real, generated, generated (6), D's gradients in
# its own step (4), and G's step: back through D (2) and G (3).  Products that no gradient needs are left out.
PRODUCTS = (
    (2, BATCH, NOISE, HIDDEN), (2, BATCH, HIDDEN, PIXELS), (3, BATCH, PIXELS, HIDDEN), (3, BATCH, HIDDEN, 1),
    (2, PIXELS, BATCH, HIDDEN), (2, HIDDEN, BATCH, 1),
    (1, BATCH, 1, HIDDEN), (1, BATCH, HIDDEN, PIXELS),
    (1, BATCH, PIXELS, HIDDEN), (1, HIDDEN, BATCH, PIXELS), (1, NOISE, BATCH, HIDDEN),
)


def batches(images):
    """Minibatches for ever, as the article's `mnist.train.next_batch` makes them.

    At each epoch a copy of all pictures is shuffled, and then handed out in slices.  (The original copies labels, too.)
    """
    while True:
        shuffled = images[RNG.permutation(len(images))]
        for start in range(0, len(images) - BATCH, BATCH):
            yield shuffled[start:start + BATCH]


def noise():
    return RNG.uniform(-1.0, 1.0, size=[BATCH, NOISE])


def seconds(run, steps):
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start


def measure(ways):
    """Name -> alternations per second, one number for each round; the ways take turns within a round."""
    steps = {}
    for name, run in ways.items():
        run(100)  # compiles, and warms up
        steps[name] = max(100, round(SECONDS_A_ROUND * 200 / seconds(run, 200) / 100) * 100)
    speeds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            speeds[name].append(steps[name] / seconds(run, steps[name]))
    return speeds


def peak_memory():
    """Pictures, and peak memory in GB, of a process that loads MNIST and trains on all of it (on Linux)."""
    program = ("import gan_lib; images = gan_lib.load_mnist().train_images; "
               "list(gan_lib.train(gan_lib.GAN(), images, 1000)); "
               "print(len(images), *(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))")
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    count, kibibytes = output.split()[-2:]
    return int(count), int(kibibytes) * 1024 / 1e9


def main():
    flop = 2 * sum(count * m * k * n for count, m, k, n in PRODUCTS)
    images = RNG.random((IMAGES, PIXELS), dtype=np.float32)
    session, bound, ours = "session with feed_dict (the article)", "the matrix products alone", "gan_lib.train"
    speeds = measure({
        "Keras fit, as it comes": keras_fit(images, 1),
        "Keras fit, steps_per_execution=50": keras_fit(images, 50),
        "tf.function per step, batch from NumPy": function_per_step(images),
        session: session_with_feed_dict(images),
        ours: gan_lib_train(images),
        bound: matrix_products(images),
    })

    def ratio(name, to):
        return statistics.median(a / b for a, b in zip(speeds[name], speeds[to], strict=True))

    print(f"{'':42}{'per second':>11}{'to session':>12}{'to bound':>10}")
    for name, values in speeds.items():
        print(f"{name:42}{statistics.median(values):11.0f}{ratio(name, session):12.2f}{ratio(name, bound):10.2f}")
    rate = flop * statistics.median(speeds[bound]) / 1e9
    print(f"\n{flop / 1e6:.0f} MFLOP of matrix products an alternation, computed at {rate:.0f} GFLOP/s")
    if sys.platform == "linux":
        count, peak = peak_memory()
        print(f"peak memory of a process that trains on {count:,} pictures: {peak:.2f} GB")


if __name__ == "__main__":
    main()
