"""Where the digits come from, in their order, and what happens when a source is broken, slow or not there."""

import contextlib
import errno
import gzip
import hashlib
import http.server
import os
import pickle
import re
import socket
import struct
import tempfile
import threading
import time

import numpy as np
import pytest
from conftest import MNIST, ROOT, in_another_process

import gan_lib
from gan_lib import load_mnist


@pytest.fixture
def small_mnist(monkeypatch, tmp_path):
    """The path of 40 made-up digits in MNIST's layout, which take the place of the genuine ones in this test."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in ("train", 30), ("test", 10):
        arrays[f"x_{part}"] = np.minimum(rng.integers(300, size=(n, 28, 28)), 255).astype(np.uint8)
        arrays[f"y_{part}"] = np.arange(n, dtype=np.uint8) % 10
    monkeypatch.setattr(gan_lib, "MNIST_ARRAYS", {
        name: (array.shape, hashlib.sha256(array).hexdigest()[:16]) for name, array in arrays.items()})
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    return tmp_path / "small.npz"


@pytest.fixture
def temporary_folder(monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def serve():
    """serve(answer) -> the address of a server on this machine that calls answer(handler) for each request."""
    servers = []

    def start(answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/mnist.npz"

    yield start
    for server in servers:
        server.shutdown()


def sends(content, length=None):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length or len(content)))
        handler.end_headers()
        handler.wfile.write(content)
    return answer


def refuses(handler):
    handler.send_error(403)


def cache(tmp_path):
    return tmp_path / "keras" / "datasets" / "mnist.npz"


def check_digits(digits, source):
    assert source in digits.source
    for images, labels in (digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels):
        assert images.dtype == np.float32 and images.shape == (len(labels), 784)
        assert images.min() == 0 and images.max() == 1
        assert labels.dtype == np.int64 and set(labels) == set(range(10))


def test_the_embedded_digits_have_mnists_frame():
    digits = gan_lib._embedded_digits()
    check_digits(digits, "scikit-learn")
    assert len(digits.train_images) + len(digits.test_images) == 1797
    frame = np.ones((28, 28), bool)
    frame[4:24, 4:24] = False
    assert not digits.train_images[:, frame.ravel()].any()


def test_a_path_comes_first(mnist_path, monkeypatch):
    monkeypatch.setenv("GAN_LIB_MNIST", "/nowhere")
    digits = load_mnist(mnist_path)
    check_digits(digits, "MNIST")
    assert len(digits.train_images) == 60_000 and len(digits.test_images) == 10_000


def test_then_the_environment_variable_then_the_cache(mnist_path, monkeypatch, tmp_path):
    cache(tmp_path).parent.mkdir(parents=True)
    cache(tmp_path).symlink_to(mnist_path)
    check_digits(load_mnist(), "cache")
    monkeypatch.setenv("GAN_LIB_MNIST", str(mnist_path))
    check_digits(load_mnist(), "file")


def test_then_a_download_which_is_found_again_without_a_network(mnist_path, monkeypatch, serve, tmp_path,
                                                                temporary_folder):
    right = sends(open(mnist_path, "rb").read())
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(refuses), serve(right)))
    check_digits(load_mnist(), "download")
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", ())
    check_digits(load_mnist(), "cache")
    assert list(cache(tmp_path).parent.iterdir()) == [cache(tmp_path)]
    assert list(temporary_folder.iterdir()) == []


def test_and_last_the_embedded_digits_with_one_line_that_says_so(capsys):
    check_digits(load_mnist(), "scikit-learn")
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Downloading data from")]
    assert len(said) == 1 and "MNIST could not be downloaded (127.0.0.1:9: [" in said[0]
    assert "refused" in said[0] and "scikit-learn" in said[0] and "GAN_LIB_MNIST" in said[0]


def test_a_path_may_begin_with_a_tilde(small_mnist, monkeypatch):
    for variable in "HOME", "USERPROFILE":
        monkeypatch.setenv(variable, str(small_mnist.parent))
    check_digits(load_mnist("~/small.npz"), "file")
    monkeypatch.setenv("GAN_LIB_MNIST", "~/small.npz")
    check_digits(load_mnist(), "file")
    monkeypatch.delenv("GAN_LIB_MNIST")
    monkeypatch.setenv("KERAS_HOME", "~/keras")
    cache(small_mnist.parent).parent.mkdir(parents=True)
    small_mnist.rename(cache(small_mnist.parent))
    check_digits(load_mnist(), "cache")


def answers_nonsense(handler):
    handler.wfile.write(b"this is no answer\r\n\r\n")


BROKEN_ANSWERS = {
    "of no known protocol": (answers_nonsense, "this is no answer"),
    "refused": (refuses, "Forbidden"),
    "cut off": (sends(b"x" * 1000, length=5000), ".*got only 1000 out of 5000 bytes"),
    "of something else": (sends(b"<html>Please log in</html>"), "it sent a file that is not MNIST: it is a text file"),
    # Before 3.13 it is Keras's progress bar that fails on an empty file.
    "empty": (sends(b""), "(it sent a file that is not MNIST: it is empty|math domain error)"),
}


@pytest.mark.parametrize("kind", BROKEN_ANSWERS)
def test_a_download_that_fails_is_named_and_leaves_nothing_behind(kind, monkeypatch, serve, tmp_path, temporary_folder,
                                                                  capsys):
    answer, reason = BROKEN_ANSWERS[kind]
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(answer),))
    check_digits(load_mnist(), "scikit-learn")
    assert re.search(rf"MNIST could not be downloaded \(127.0.0.1:\d+: {reason}\)\.", capsys.readouterr().out)
    assert list(tmp_path.rglob("*")) == [temporary_folder]


def test_keras_shows_how_far_a_download_is(small_mnist, monkeypatch, serve, capsys):
    address, size = serve(sends(small_mnist.read_bytes())), small_mnist.stat().st_size
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (address,))
    check_digits(load_mnist(), "download")
    said = capsys.readouterr().out
    assert f"Downloading data from {address}" in said and f"{size}/{size}" in said


def sends_slowly(content, pieces, pause, length=None):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(length or len(content)))
        handler.end_headers()
        for i in range(pieces):
            with contextlib.suppress(OSError):  # the other side may have hung up
                handler.wfile.write(content[i * len(content) // pieces:(i + 1) * len(content) // pieces])
                handler.wfile.flush()
            time.sleep(pause)
    return answer


def test_a_slow_mirror_is_waited_for_as_long_as_something_comes(small_mnist, monkeypatch, serve):
    slow = sends_slowly(small_mnist.read_bytes(), pieces=10, pause=0.3)
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(slow),))
    monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 1.5)
    check_digits(load_mnist(), "download")


def test_a_mirror_that_stalls_is_given_up_for_the_next(small_mnist, monkeypatch, serve, tmp_path):
    stalls = sends_slowly(b"x" * 600, pieces=1, pause=20, length=5000)
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(stalls), serve(sends(small_mnist.read_bytes()))))
    monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 1)
    start = time.monotonic()
    check_digits(load_mnist(), "download")
    assert time.monotonic() - start < 8
    assert list(cache(tmp_path).parent.iterdir()) == [cache(tmp_path)]


def test_a_mirror_that_never_answers_is_given_up(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (f"http://127.0.0.1:{server.getsockname()[1]}/mnist.npz",))
        monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 0.5)
        start = time.monotonic()
        check_digits(load_mnist(), "scikit-learn")
        assert time.monotonic() - start < 5
    assert "timed out" in capsys.readouterr().out


@pytest.mark.parametrize("usual", [None, 77.0])
def test_a_download_leaves_the_time_out_of_other_sockets_as_it_was(usual, small_mnist, monkeypatch, serve):
    socket.setdefaulttimeout(usual)
    try:
        for answer in refuses, sends(small_mnist.read_bytes()):
            monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(answer),))
            load_mnist()
            assert socket.getdefaulttimeout() == usual
    finally:
        socket.setdefaulttimeout(None)


def test_without_a_network_the_answer_comes_within_half_a_minute():
    mirrors = (ROOT / "gan_lib.py").read_text(encoding="utf-8").count("/mnist.npz\",")
    assert mirrors >= 2 and mirrors * gan_lib.NO_ANSWER_AFTER < 25


def check_not_kept(said):
    assert "could not be kept" in said and "KERAS_HOME" in said
    assert "could not be downloaded" not in said and "scikit-learn" not in said


@pytest.mark.parametrize("home", ["KERAS_HOME", "HOME", "unknown"])
def test_a_home_that_cannot_be_written_is_no_fault_of_the_network(home, small_mnist, monkeypatch, serve, tmp_path,
                                                                  capsys):
    (tmp_path / "file").touch()
    monkeypatch.delenv("KERAS_HOME")
    if home == "unknown":
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
        monkeypatch.chdir(tmp_path)
    for variable in {"KERAS_HOME": ["KERAS_HOME"], "HOME": ["HOME", "USERPROFILE"], "unknown": []}[home]:
        monkeypatch.setenv(variable, str(tmp_path / "file" / "home"))
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(sends(small_mnist.read_bytes())),))
    before = sorted(tmp_path.rglob("*"))
    check_digits(load_mnist(), "download")
    check_not_kept(capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become a user without a home")
def test_a_user_without_a_home_gets_the_digits(small_mnist, serve):
    said = in_another_process(f"""
import os, gan_lib
gan_lib.MNIST_ARRAYS, gan_lib.MNIST_MIRRORS = {gan_lib.MNIST_ARRAYS}, [{serve(sends(small_mnist.read_bytes()))!r}]
gan_lib.load_mnist()  # imports all that it needs, which a user without rights may not be able to read
os.setgroups([])
os.setgid(12345)
os.setuid(12345)
del os.environ["KERAS_HOME"]
os.environ.pop("HOME", None)
for home in None, "/", "/root":
    os.environ.update(dict(HOME=home) if home else dict())
    print("---", home, gan_lib.load_mnist().source)
""")
    check_not_kept(said)
    assert re.findall("---.*", said) == [f"--- {home} MNIST (download)" for home in (None, "/", "/root")]
    assert said.count("could not be kept") == 3


def test_a_disk_without_room_for_mnist_is_named_and_nothing_is_left_of_it(small_mnist, monkeypatch, serve, tmp_path,
                                                                          capsys):
    def fills_the_disk(source, destination):
        destination.write_bytes(b"x" * 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gan_lib.shutil, "copyfile", fills_the_disk)
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(sends(small_mnist.read_bytes())),))
    check_digits(load_mnist(), "download")
    said = capsys.readouterr().out
    check_not_kept(said)
    assert "No space left" in said and list(cache(tmp_path).parent.iterdir()) == []


def shuffled_mnist():
    with np.load(MNIST) as file:
        arrays = dict(file)
    arrays["x_train"] = arrays["x_train"][::-1]
    return arrays


def npz_of(**arrays):
    def write(path):
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)
    return write


def in_mnists_layout(dtype):
    return npz_of(**{name: np.zeros(shape, dtype) for name, (shape, _) in gan_lib.MNIST_ARRAYS.items()})


def contains(content):
    return lambda path: path.write_bytes(content)


def one_array(path):
    with open(path, "wb") as file:
        np.save(file, TEN)


TEN = np.zeros((10, 28, 28), np.uint8)
IDX = struct.pack(">4I", 2051, *TEN.shape) + TEN.tobytes()
PICKLED = pickle.dumps(((TEN, TEN),) * 3)
NAMED = [f"picture{i}" for i in range(2000)]

WRONG_FILES = {  # kind -> what writes it, and what is said of it
    "of something else": (npz_of(x=TEN), r"it holds 'x', and no 'x_train', 'y_train', 'x_test', 'y_test'\."),
    "of other names": (npz_of(x_train=TEN, y_train=TEN, images=TEN),
                       r"it holds 'x_train', 'y_train', 'images', and no 'x_test', 'y_test'\."),
    "of many names": (npz_of(**{name: TEN[0, 0] for name in NAMED}),
                      "it holds 'picture0', 'picture1', 'picture2', 'picture3', 'picture4', ..., and no 'x_train'"),
    "of nothing": (npz_of(), "it holds nothing, and no 'x_train'"),
    "of other shapes": (npz_of(**dict.fromkeys(gan_lib.MNIST_ARRAYS, TEN)),
                        r"x_train is uint8 \[10, 28, 28\], expected uint8 \[60000, 28, 28\]\."),
    "of other types": (in_mnists_layout(bool), "x_train is bool"),
    "of other digits": (in_mnists_layout(np.uint8), r"the values in x_train are other ones\."),
    "of objects": (npz_of(**dict.fromkeys(gan_lib.MNIST_ARRAYS, np.array([None]))),
                   r"what it holds are no arrays of numbers\."),
    "in the idx format, compressed": (lambda path: path.write_bytes(gzip.compress(IDX)), "it is compressed with gzip"),
    "in the idx format": (contains(IDX), r"it is in the idx format of MNIST's own site\."),
    "pickled and compressed": (contains(gzip.compress(PICKLED)), "it is compressed with gzip, as .*mnist.pkl.gz are"),
    "pickled": (contains(PICKLED), r"it is a pickle\."),
    "one array": (one_array, r"it is one NumPy array \(.npy\)\."),
    "in HDF5": (contains(b"\x89HDF\r\n\x1a\n" + bytes(100)), r"it is an HDF5 file\."),
    "a picture": (contains(b"\x89PNG\r\n\x1a\n" + bytes(100)), r"it is a picture\."),
    "a text": (contains(b"label,1x1,1x2\r\n5,0,0\r\n" * 100), r"it is a text file\."),
    "of unknown bytes": (contains(bytes(range(200, 256))), r"it is no .npz, which would begin with PK\."),
    "of unknown bytes after PK": (contains(b"PK" + bytes(range(200, 256))), "what it holds are no arrays"),
    "empty": (contains(b""), r"it is empty\."),
    "a folder": (lambda path: path.mkdir(), r"it is a folder\."),
}


@pytest.mark.parametrize("found", ["path", "variable", "cache"])
@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_named_and_neither_used_nor_touched(kind, found, monkeypatch, tmp_path):
    write, said = WRONG_FILES[kind]
    path = cache(tmp_path)
    path.parent.mkdir(parents=True)
    write(path)
    before = path.is_file() and path.read_bytes(), path.stat().st_mtime_ns
    if found == "variable":
        monkeypatch.setenv("GAN_LIB_MNIST", str(path))
    with pytest.raises(ValueError) as caught:
        load_mnist(path if found == "path" else None)
    message = str(caught.value).replace(str(path), "FILE")
    named = " (named by GAN_LIB_MNIST)" if found == "variable" else ""
    assert message.startswith(f"FILE{named} is not MNIST as expected: ") and re.search(said, message)
    assert "Expected: the file mnist.npz in Keras's layout, with the arrays 'x_train', 'y_train'" in message
    assert "allow_pickle" not in message
    assert re.findall("(?i)delete|remove|move|download", message) == (["delete", "download"] * (found == "cache"))
    assert found != "cache" or message.endswith("Or delete FILE: MNIST is then downloaded again.")
    assert before == (path.is_file() and path.read_bytes(), path.stat().st_mtime_ns)


def test_mnist_in_another_order_is_not_mnist(mnist_path, tmp_path):
    np.savez(tmp_path / "mnist.npz", **shuffled_mnist())
    with pytest.raises(ValueError, match="the values in x_train are other ones"):
        load_mnist(tmp_path / "mnist.npz")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_a_truncated_file_is_named(mnist_path, tmp_path, share):
    whole, cut = open(mnist_path, "rb").read(), tmp_path / "mnist.npz"
    cut.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="mnist.npz is not MNIST as expected: it cannot be read to its end"):
        load_mnist(cut)


def test_a_damaged_file_is_named(small_mnist):
    content = bytearray(small_mnist.read_bytes())
    content[300:400] = bytes(100)
    small_mnist.write_bytes(content)
    with pytest.raises(ValueError, match="small.npz is not MNIST as expected: it cannot be read to its end"):
        load_mnist(small_mnist)


def test_a_file_that_is_not_there_is_named(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nowhere.npz. Expected: mnist.npz"):
        load_mnist(tmp_path / "nowhere.npz")
    monkeypatch.setenv("GAN_LIB_MNIST", str(tmp_path / "nowhere.npz"))
    with pytest.raises(FileNotFoundError, match="named by GAN_LIB_MNIST"):
        load_mnist()
