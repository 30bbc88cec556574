"""How many alternations a second each way of writing the article's training reaches, in one run and in turn.

An alternation is one step of the discriminator and one of the generator, batch 128, networks 100-128-784 and
784-128-1, Adam, on 60 000 pictures; in a second table the networks are convolutional.  `make bench` runs this.  Ratios
are medians over the rounds, each ratio taken within one round, so that a machine that is slower for a while slows down
both sides of it.

At the end comes what a learner waits for: how far our DCGAN's pictures are from digits after a minute of training, and
how long TensorFlow's tutorial takes to come as near, by the same score.  It is stopped after ten minutes.
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
SECONDS_A_ROUND = 2.0
OURS_TRAINS, OTHERS_TRAIN = 60, 600  # seconds
SHUFFLED = 10_000  # so many pictures tf.data shuffles at a time: to collect them takes a small part of a round
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
    gan.compile()

    @tf.function
    def alternate(x, z_for_d, z_for_g):
        return gan.discriminator_step(x, z_for_d), gan.generator_step(z_for_g)

    next_batch = batches(images)

    def run(steps):
        for _ in range(steps):
            alternate(next(next_batch), noise().astype(np.float32), noise().astype(np.float32))

    return run


def keras_fit(gan, images, batch, steps_per_execution=1):
    """Keras's own fit of the same train_step, fed by tf.data, without XLA."""
    gan.compile(jit_compile=False)
    gan.steps_per_execution = steps_per_execution
    data = tf.data.Dataset.from_tensor_slices(images).shuffle(SHUFFLED).batch(batch, drop_remainder=True).repeat()
    return lambda steps: keras.Model.fit(gan, data, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)


def gan_lib_fit(gan, images, batch):
    tensor = tf.identity(images)
    return lambda steps: gan.fit(tensor, batch_size=batch, steps_per_epoch=steps, verbose=0)


def loop_over_train_step(gan, images, batch):
    """The same train_step, a loop of it compiled by tf.function, without XLA; pictures picked out in the loop."""
    gan.compile(jit_compile=False)
    tensor = tf.identity(images)

    @tf.function
    def loop(steps):
        report = tf.zeros([4])
        for _ in tf.range(steps):
            rows = tf.random.uniform([batch], 0, len(tensor), tf.int32)
            report = tf.stack(list(gan.train_step(tf.gather(tensor, rows)).values()))
        return report

    return lambda steps: loop(tf.constant(steps)).numpy()


def tensorflow_docs(images):
    """The networks and the training of TensorFlow's DCGAN tutorial: larger, batch 256, one step of both at once.

    Returns the function that trains, and one that draws.
    """
    layers, batch = keras.layers, 256
    generator = keras.Sequential([
        keras.Input((NOISE,)), layers.Dense(7 * 7 * 256, use_bias=False), layers.BatchNormalization(),
        layers.LeakyReLU(), layers.Reshape((7, 7, 256)),
        layers.Conv2DTranspose(128, 5, 1, "same", use_bias=False), layers.BatchNormalization(), layers.LeakyReLU(),
        layers.Conv2DTranspose(64, 5, 2, "same", use_bias=False), layers.BatchNormalization(), layers.LeakyReLU(),
        layers.Conv2DTranspose(1, 5, 2, "same", use_bias=False, activation="tanh"),
    ])
    discriminator = keras.Sequential([
        keras.Input((28, 28, 1)), layers.Conv2D(64, 5, 2, "same"), layers.LeakyReLU(), layers.Dropout(0.3),
        layers.Conv2D(128, 5, 2, "same"), layers.LeakyReLU(), layers.Dropout(0.3), layers.Flatten(), layers.Dense(1),
    ])
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    g_optimizer, d_optimizer = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)

    @tf.function
    def train_step(x):
        with tf.GradientTape() as g_tape, tf.GradientTape() as d_tape:
            fake = generator(tf.random.normal([batch, NOISE]), training=True)
            real_logits, fake_logits = discriminator(x, training=True), discriminator(fake, training=True)
            g_loss = entropy(tf.ones_like(fake_logits), fake_logits)
            d_loss = (entropy(tf.ones_like(real_logits), real_logits)
                      + entropy(tf.zeros_like(fake_logits), fake_logits))
        for tape, loss, network, optimizer in ((g_tape, g_loss, generator, g_optimizer),
                                               (d_tape, d_loss, discriminator, d_optimizer)):
            weights = network.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return d_loss, g_loss

    data = tf.data.Dataset.from_tensor_slices(images).shuffle(SHUFFLED).batch(batch, drop_remainder=True).repeat()
    next_batches = iter(data.map(lambda x: 2 * x - 1))

    def run(steps):
        for _ in range(steps):
            d_loss, _ = train_step(next(next_batches))
        d_loss.numpy()

    def draw(n):
        return (generator.predict(RNG.normal(size=(n, NOISE)).astype(np.float32), batch_size=250, verbose=0) + 1) / 2

    return run, draw


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


def measure(ways, pilot=100):
    """Name -> alternations per second, one number for each round; the ways take turns within a round.

    pilot: so many alternations show how fast a way is, and a round takes a multiple of them
    """
    steps = {}
    for name, run in ways.items():
        run(pilot)  # compiles, and warms up
        steps[name] = 2 * pilot
        for _ in range(2):  # at first what happens once in a run may take longer than all its steps
            fitting = SECONDS_A_ROUND * steps[name] / seconds(run, steps[name])
            steps[name] = pilot * max(1, round(fitting / pilot))
    speeds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            speeds[name].append(steps[name] / seconds(run, steps[name]))
    return speeds


def print_table(speeds, **references):
    """A line for each way: its speed, and its ratios to some of the ways."""
    print(f"{'':42}{'per second':>11}" + "".join(f"{'to ' + name:>12}" for name in references))
    for name, values in speeds.items():
        ratios = (statistics.median(a / b for a, b in zip(values, speeds[reference], strict=True))
                  for reference in references.values())
        median = statistics.median(values)
        print(f"{name:42}{median:11.{0 if median > 20 else 1}f}" + "".join(f"{ratio:12.2f}" for ratio in ratios))


def milliseconds_of_a_call(images, calls=20):
    """How much longer a fit of one alternation takes than one alternation in a long fit, median over the calls."""
    gan = gan_lib.GAN()

    def fit(steps):
        gan.fit(images, steps_per_epoch=steps, verbose=0)

    fit(500)  # compiles, and looks at the data, once
    return 1000 * statistics.median(seconds(fit, 1) - seconds(fit, 100) / 100 for _ in range(calls))


def train_until(run, draw, scorer, steps, at_most, goal=0.0):
    """Train in slices of so many steps, until the distance of 2 000 pictures is at most `goal`, or the time is over.

    Returns seconds of training, the steps made, and the last distance.  Compiling and scoring are not counted.
    """
    run(1)
    took, made, distance = 0.0, 1, np.inf
    while took < at_most and distance > goal:
        took += seconds(run, steps)
        made += steps
        if goal or took >= at_most:
            distance = scorer.distance(draw(2000))
    return took, made, distance


def time_to_digits():
    """Print how near to digits ours comes in a minute, and how long TensorFlow's tutorial takes for that."""
    digits = gan_lib.load_mnist()
    scorer, gan, pictures = gan_lib.Scorer(digits), dcgan(), digits.train_images.reshape(-1, 28, 28, 1)
    took, made, goal = train_until(gan_lib_fit(gan, pictures, 64), gan.generate, scorer, 50, OURS_TRAINS)
    print(f"\non {digits.source}, Fréchet distance of 2 000 pictures (real ones: "
          f"{scorer.distance(digits.train_images[:2000]):.1f})\n"
          f"our DCGAN, {took:.0f} s of training, {made:,} alternations: {goal:.1f}")
    took, made, distance = train_until(*tensorflow_docs(pictures), scorer, 20, OTHERS_TRAIN, goal)
    verdict = "as near" if distance <= goal else "not as near, and stopped"
    print(f"TensorFlow's tutorial, {took:.0f} s of training, {made:,} steps: {distance:.1f}, {verdict}")


def peak_memory():
    """Pictures, and peak memory in GB, of a process that loads MNIST and trains on all of it (on Linux)."""
    program = ("import gan_lib; images = gan_lib.load_mnist().train_images; "
               "gan_lib.GAN().fit(images, steps_per_epoch=1000, verbose=0); "
               "print(len(images), *(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))")
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    count, kibibytes = output.split()[-2:]
    return int(count), int(kibibytes) * 1024 / 1e9


def main():
    flop = 2 * sum(count * m * k * n for count, m, k, n in PRODUCTS)
    images = RNG.random((IMAGES, PIXELS), dtype=np.float32)
    session, bound, ours = "session with feed_dict (the article)", "the matrix products alone", "gan_lib: fit"
    speeds = measure({
        "Keras fit": keras_fit(gan_lib.GAN(), images, BATCH),
        "Keras fit, steps_per_execution=50": keras_fit(gan_lib.GAN(), images, BATCH, 50),
        "tf.function per step, batch from NumPy": function_per_step(images),
        session: session_with_feed_dict(images),
        ours: gan_lib_fit(gan_lib.GAN(), images, BATCH),
        bound: matrix_products(images),
    })
    print_table(speeds, session=session, bound=bound)
    rate = flop * statistics.median(speeds[bound]) / 1e9
    print(f"\n{flop / 1e6:.0f} MFLOP of matrix products an alternation, computed at {rate:.0f} GFLOP/s")
    of_tensor, of_array = milliseconds_of_a_call(tf.identity(images)), milliseconds_of_a_call(images)
    print(f"a fit of 1 alternation takes {of_tensor:.1f} ms more than 1 alternation in a long fit, with a tensor; "
          f"{of_array:.1f} ms with a NumPy array")

    pictures = images.reshape(IMAGES, 28, 28, 1)
    print("\nDCGAN, 16 channels, batch 64")
    print_table(measure({
        ours: gan_lib_fit(dcgan(), pictures, 64),
        "tf.function, a loop of train_step": loop_over_train_step(dcgan(), pictures, 64),
        "Keras fit": keras_fit(dcgan(), pictures, 64),
        "TensorFlow's tutorial, larger, batch 256": tensorflow_docs(pictures)[0],
    }, pilot=2), fit=ours)
    if sys.platform == "linux":
        count, peak = peak_memory()
        print(f"\npeak memory of a process that trains on {count:,} pictures: {peak:.2f} GB")
    time_to_digits()


def dcgan():
    return gan_lib.GAN(*gan_lib.build_dcgan(channels=16))


if __name__ == "__main__":
    main()
