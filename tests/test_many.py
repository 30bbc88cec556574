"""Several devices and several processes: they learn what one does, and none of the processes stays behind."""

import ast
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, in_another_process, state, tiny_gan, trained, two_kinds
from notebook_parts import definitions, statements, text_of

from gan_lib import GAN, build_dcgan


@pytest.fixture(scope="module")
def nb11():
    """What the notebook starts and stops its workers with."""
    return definitions(11, "workers", "free_ports", "finished", "IMPORTS")


def alive(pid):
    """Whether there is such a process, other than one that has ended and waits to be noticed."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def soon(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def by_all(nb11, folder, program):
    """Run a program as two workers in `folder`; what they print."""
    script = folder / "program.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n{textwrap.dedent(program)}")
    with nb11["workers"](script, folder, ports=nb11["free_ports"](2)) as processes:
        codes = nb11["finished"](processes)
    logs = [(folder / f"log{i}.txt").read_text() for i in range(2)]
    assert codes == [0, 0], logs
    return logs
