"""Several devices and several processes: they learn what one does, and none of the processes stays behind."""

import ast
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, in_another_process, same, tiny_gan, trained
from notebook_parts import definitions, statements, text_of

from gan_lib import GAN, build_dcgan

TWO_DEVICES = """
import keras, tensorflow as tf
from notebook_parts import definitions
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           2 * [tf.config.LogicalDeviceConfiguration()])
one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


@pytest.fixture(scope="module")
def nb11():
    """What the notebook starts its workers with, and the script that they run."""
    names = definitions(11, "workers", "free_ports", "finished", "IMPORTS")
    (train_many,) = [part for part in statements(text_of(11)) if getattr(part, "name", "") == "train_many"]
    names["SCRIPT"] = f"{names['IMPORTS']}\n{ast.unparse(train_many)}\n\ntrain_many(sys.argv[1], int(sys.argv[2]))\n"
    return names


@pytest.fixture
def start(nb11, tmp_path, monkeypatch):
    """A function that starts two workers: of the notebook's script, or of another program."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # workers of one machine do not ask a proxy, here a dead one
    script = tmp_path / "train_many.py"
    np.save(tmp_path / "digits.npy", np.random.default_rng(0).random((200, 784), dtype=np.float32))

    def start(*arguments, program=nb11["SCRIPT"], ports=None):
        script.write_text(program, encoding="utf-8")
        return nb11["workers"](script, tmp_path, *arguments, ports=ports or nb11["free_ports"](2))

    return start


def log(folder, worker=0):
    return (folder / f"log{worker}.txt").read_text()


def is_alive(pid):
    """Whether there is such a process, other than one that has ended and waits to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def soon(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


# -- several devices in one process ------------------------------------------------------------------------


def test_a_dcgan_on_two_devices_is_that_on_one_if_its_normalisation_is_synchronized():
    """Plain gradient descent, which Adam would be in its steps' direction alone."""
    assert in_another_process(TWO_DEVICES + """
synchronized = definitions(11, "synchronized")["synchronized"]
images, ends = np.random.default_rng(0).random((64, 8, 8, 1), dtype=np.float32), []
for strategy, change in (one, lambda network: network), (two, synchronized), (two, lambda network: network):
    with strategy.scope():
        gan = gan_lib.GAN(*map(change, gan_lib.build_dcgan((8, 8, 1), channels=2)))
        gan.compile(jit_compile=False, generator_optimizer=keras.optimizers.SGD(0.1),
                    discriminator_optimizer=keras.optimizers.SGD(0.1))
    gan.fit(images, batch_size=16, steps_per_epoch=4, verbose=0)
    ends.append(np.concatenate([weight.numpy().ravel() for weight in gan.trainable_variables]))
alone, agreed, each_its_own = ends
print(np.abs(alone - agreed).max() < 1e-5 < 1e-4 < np.abs(alone - each_its_own).max())
""") == "True"


def test_a_dataset_that_ends_early_is_begun_again_on_two_devices_too():
    assert in_another_process(TWO_DEVICES + """
images, ends = two_kinds(), []
for strategy in one, two:
    with strategy.scope():
        gan = tiny_gan(generator_optimizer=keras.optimizers.SGD(0.1), discriminator_optimizer=keras.optimizers.SGD(0.1))
    gan.fit(tf.data.Dataset.from_tensor_slices(images).batch(100), steps_per_epoch=8, verbose=0)
    ends.append(gan.get_weights())
print(gan.alternations, all(np.allclose(a, b, atol=1e-6) for a, b in zip(*ends)))
try: gan.fit(tf.data.Dataset.from_tensor_slices(images[:251]).batch(50), verbose=0)
except ValueError as error: print(error)
""").splitlines() == ["8 True", "The Dataset gives a minibatch of 1, expected a multiple of 2, the replicas that share "
                      "it. Leave out what remains: dataset.batch(128, drop_remainder=True)."]


def test_gradients_add_up_over_small_minibatches_on_one_device_and_are_refused_on_two(images):
    whole, portions = tiny_gan(), tiny_gan(discriminator_optimizer=keras.optimizers.Adam(
        0.001, beta_1=0.5, gradient_accumulation_steps=4))
    z = np.random.default_rng(0).uniform(-1, 1, (32, 5)).astype(np.float32)
    whole.discriminator_step(images[:32], z)
    for rows in np.split(np.arange(32), 4):
        portions.discriminator_step(images[rows], z[rows])
    assert all(np.allclose(a, b, atol=2e-6) for a, b in zip(whole.get_weights(), portions.get_weights()))
    trained(portions, images, 8)
    assert int(portions.discriminator_optimizer.iterations) == 3
    assert in_another_process(TWO_DEVICES + """
with two.scope(): gan = gan_lib.GAN(*tiny_networks())
try: gan.compile(generator_optimizer=keras.optimizers.Adam(gradient_accumulation_steps=2))
except ValueError as error: print(error)
""").startswith("generator_optimizer accumulates gradients, which Keras cannot do on several replicas. Leave")


# -- several processes -----------------------------------------------------------------------------------------


def runs(strategy, synchronized=lambda network: network):
    """The article's pair and a DCGAN, trained by plain gradient descent, which takes a rounding for what it is."""
    for name, shape, steps in ("pair", (784,), 60), ("dcgan", (8, 8, 1), 4):
        with strategy.scope():
            pair = () if name == "pair" else map(synchronized, build_dcgan(shape, channels=2))
            gan = GAN(*pair, seed=0)
            gan.compile(jit_compile=False, generator_optimizer=keras.optimizers.SGD(0.05),
                        discriminator_optimizer=keras.optimizers.SGD(0.05))
        images = np.random.default_rng(0).random((64, *shape), dtype=np.float32)
        gan.fit(images, batch_size=16, steps_per_epoch=steps, verbose=0)
        yield name, gan


def test_two_workers_train_the_articles_pair_and_a_dcgan_as_one_device_does(nb11, start, tmp_path):
    """At whatever pace: workers that made calls of different lengths would wait for each other for ever."""
    with start(program="""
import sys, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import gan_lib, notebook_parts, test_many
worker = strategy.cluster_resolver.task_id
gan_lib.SECONDS_IN_A_CALL = (0.001, 0.3)[worker]
for name, gan in test_many.runs(strategy, notebook_parts.definitions(11, "synchronized")["synchronized"]):
    gan.save(f"{sys.argv[1]}/{name}{worker}.keras")
""") as processes:
        assert nb11["finished"](processes) == [0, 0], log(tmp_path) + log(tmp_path, 1)
    for name, gan in runs(tf.distribute.get_strategy()):
        for worker in range(2):
            other = keras.saving.load_model(tmp_path / f"{name}{worker}.keras")
            assert other.alternations == gan.alternations
            assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(other.get_weights(), gan.get_weights())), name


def test_a_killed_worker_costs_the_unfinished_epoch_and_nothing_else(nb11, start, tmp_path):
    with start(3) as (first, second):
        assert soon(lambda: "epoch 1:" in log(tmp_path) or first.poll() is not None)
        second.kill()
        assert first.wait(timeout=60) > 0 and "aborted" in log(tmp_path)
    before = keras.saving.load_model(tmp_path / "gan.keras").alternations
    assert 50 <= before < 150
    with start(3) as processes:
        assert nb11["finished"](processes) == [0, 0], log(tmp_path) + log(tmp_path, 1)
    epochs = [f"epoch {i + 1}: {50 * (i + 1)} alternations" for i in range(3)]
    assert log(tmp_path).splitlines() == epochs[before // 50:]
    resumed = keras.saving.load_model(tmp_path / "gan.keras").get_weights()
    (tmp_path / "gan.keras").unlink()
    with start(3) as processes:
        assert nb11["finished"](processes) == [0, 0]
    whole = keras.saving.load_model(tmp_path / "gan.keras").get_weights()
    assert log(tmp_path).splitlines() == epochs and same(resumed, whole)


def test_a_port_in_use_is_an_error_and_leaves_nobody_waiting(nb11, start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        mine = taken.getsockname()[1]
        assert mine not in nb11["free_ports"](50)
        with start(1, ports=[*nb11["free_ports"](1), mine]) as processes:
            assert nb11["finished"](processes) == [None, 1] and "Could not start gRPC server" in log(tmp_path, 1)
    assert not any(is_alive(process.pid) for process in processes)


@pytest.mark.parametrize("end", ["left", "interrupted", "killed"])
def test_no_worker_outlives_the_notebook(end, tmp_path):
    """The programs only wait: that they end has to come from outside."""
    program = f"""
import os, signal, subprocess, sys, time
from pathlib import Path
from notebook_parts import definitions
names, script = definitions(11, "workers", "free_ports"), Path({str(tmp_path)!r}, "waits.py")
script.write_text("import time; print('up', flush=True); time.sleep(600)")
with names["workers"](script, ports=names["free_ports"](2)) as processes:
    while not all((script.parent / f"log{{i}}.txt").read_text() for i in range(2)):
        time.sleep(0.05)
    print(*(process.pid for process in processes), flush=True)
    if {end!r} == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if {end!r} == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, timeout=120)
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2 and (run.returncode == 0) == (end == "left"), run.stderr
    assert soon(lambda: not any(map(is_alive, pids)), seconds=10)
