"""Where the digits come from, in their order, and what happens when a source is broken, slow or not there."""

import contextlib
import http.server
import re
import socket
import threading
import time

import numpy as np
import pytest
from conftest import MNIST, ROOT

import gan_lib
from gan_lib import load_mnist


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


def test_then_a_download_which_is_found_again_without_a_network(mnist_path, monkeypatch, serve, tmp_path, capsys):
    right = sends(open(mnist_path, "rb").read())
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(refuses), serve(right)))
    check_digits(load_mnist(), "download")
    assert "11.5 MB of 11.5" in capsys.readouterr().out
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", ())
    check_digits(load_mnist(), "cache")
    assert list(cache(tmp_path).parent.iterdir()) == [cache(tmp_path)]


def test_and_last_the_embedded_digits_with_one_line_that_says_so(capsys):
    check_digits(load_mnist(), "scikit-learn")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "MNIST could not be downloaded" in said and "scikit-learn" in said


def answers_nonsense(handler):
    handler.wfile.write(b"this is no answer\r\n\r\n")


BROKEN_ANSWERS = {
    "of no known protocol": (answers_nonsense, "no answer"),
    "refused": (refuses, "Forbidden"),
    "cut off": (sends(b"x" * 1000, length=5000), "broke off|1000|IncompleteRead"),
    "of something else": (sends(b"<html>Please log in</html>"), "cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN_ANSWERS)
def test_a_download_that_fails_is_named_and_leaves_nothing_behind(kind, monkeypatch, serve, tmp_path, capsys):
    answer, reason = BROKEN_ANSWERS[kind]
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(answer),))
    check_digits(load_mnist(), "scikit-learn")
    assert re.search(reason, capsys.readouterr().out)
    assert list(cache(tmp_path).parent.iterdir()) == []


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


def test_a_slow_mirror_is_waited_for_and_the_bar_shows_how_far_it_is(mnist_path, monkeypatch, serve, capsys):
    slow = sends_slowly(open(mnist_path, "rb").read(), pieces=10, pause=0.1)
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(slow),))
    monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 2)
    check_digits(load_mnist(), "download")
    shown = re.findall(r"\[(#*)\.*\] ([\d.]+) MB of 11.5", capsys.readouterr().out)
    assert len(shown) >= 10 and len(shown[-1][0]) == 20 and len({bar for bar, _ in shown}) >= 5


@pytest.mark.parametrize(("pieces", "pause"), [(1, 4), (200, 0.05)], ids=["stalls", "trickles"])
def test_a_mirror_that_stalls_or_trickles_is_given_up_for_the_next(pieces, pause, mnist_path, monkeypatch, serve,
                                                                   tmp_path):
    hopeless = sends_slowly(b"x" * 600, pieces, pause, length=5000)
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (serve(hopeless), serve(sends(open(mnist_path, "rb").read()))))
    monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 1)
    start = time.monotonic()
    check_digits(load_mnist(), "download")
    assert time.monotonic() - start < 8
    assert list(cache(tmp_path).parent.iterdir()) == [cache(tmp_path)]


def test_a_mirror_that_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", (f"http://127.0.0.1:{server.getsockname()[1]}/mnist.npz",))
        monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 0.5)
        start = time.monotonic()
        check_digits(load_mnist(), "scikit-learn")
        assert time.monotonic() - start < 5


def test_a_name_that_is_never_looked_up_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    monkeypatch.setattr(gan_lib, "MNIST_MIRRORS", ("http://mnist.invalid/mnist.npz",))
    monkeypatch.setattr(gan_lib, "NO_ANSWER_AFTER", 0.5)
    start = time.monotonic()
    check_digits(load_mnist(), "scikit-learn")
    assert time.monotonic() - start < 5


def test_without_a_network_the_answer_comes_within_half_a_minute():
    mirrors = (ROOT / "gan_lib.py").read_text(encoding="utf-8").count("/mnist.npz\",")
    assert mirrors >= 2 and mirrors * gan_lib.NO_ANSWER_AFTER < 25


def shuffled_mnist():
    with np.load(MNIST) as file:
        arrays = dict(file)
    arrays["x_train"] = arrays["x_train"][::-1]
    return arrays


WRONG_FILES = {
    "of something else": (lambda: {"x": np.zeros(3)}, "holds no array x_train"),
    "of other shapes": (lambda: {name: np.zeros((5, 28, 28), np.uint8) for name in gan_lib.MNIST_ARRAYS},
                        r"x_train is uint8 \[5, 28, 28\], expected uint8 \[60000, 28, 28\]"),
    "of other types": (lambda: {name: np.zeros(shape, bool) for name, (shape, _) in gan_lib.MNIST_ARRAYS.items()},
                       "x_train is bool"),
    "of other digits": (lambda: {name: np.zeros(shape, np.uint8) for name, (shape, _) in gan_lib.MNIST_ARRAYS.items()},
                        "the values in x_train are not MNIST's"),
}


@pytest.mark.parametrize("found", ["path", "variable", "cache"])
@pytest.mark.parametrize("kind", WRONG_FILES)
def test_a_wrong_file_is_named_and_neither_used_nor_touched(kind, found, monkeypatch, tmp_path):
    arrays, message = WRONG_FILES[kind]
    path = cache(tmp_path)
    path.parent.mkdir(parents=True)
    np.savez_compressed(path, **arrays())
    before = path.read_bytes(), path.stat().st_mtime_ns
    if found == "variable":
        monkeypatch.setenv("GAN_LIB_MNIST", str(path))
    with pytest.raises(ValueError, match=rf"mnist.npz is not the MNIST data set: .*{message}.*Move or delete"):
        load_mnist(path if found == "path" else None)
    assert before == (path.read_bytes(), path.stat().st_mtime_ns)


def test_mnist_in_another_order_is_not_mnist(mnist_path, tmp_path):
    np.savez(tmp_path / "mnist.npz", **shuffled_mnist())
    with pytest.raises(ValueError, match="the values in x_train are not MNIST's"):
        load_mnist(tmp_path / "mnist.npz")


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_truncated_file_is_named(mnist_path, tmp_path, share):
    whole, cut = open(mnist_path, "rb").read(), tmp_path / "mnist.npz"
    cut.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="mnist.npz is not the MNIST data set: it cannot be read"):
        load_mnist(cut)


def test_a_file_that_is_not_there_is_named(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*nowhere.npz. Expected: mnist.npz"):
        load_mnist(tmp_path / "nowhere.npz")
    monkeypatch.setenv("GAN_LIB_MNIST", str(tmp_path / "nowhere.npz"))
    with pytest.raises(FileNotFoundError, match="named by GAN_LIB_MNIST"):
        load_mnist()
