import subprocess
import sys

import psutil
import pytest
import torch

from ml_backend import hardware
from ml_backend.hardware import on_free_cores

SCRIPT = """
import sys
import numpy as np
import psutil
from ml_backend.hardware import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
before = psutil.Process().memory_info().rss
del_me = np.ones(2**26, np.uint8)
del del_me
print(psutil.Process().memory_info().rss - before > 2**25)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is of Linux")
@pytest.mark.parametrize(("what", "kept"), [("keep", "True"), ("return", "False")])
def test_large_buffers_stay_with_the_process(what, kept):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept


@pytest.fixture
def load(monkeypatch):
    """What eight cores are said to be used by: others, and this process."""
    load = {"others": 0.0, "this": 0.0}
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 100 * sum(load.values()) / 8)
    monkeypatch.setattr(psutil.Process, "cpu_percent", lambda _: 100 * load["this"])
    monkeypatch.setattr(hardware, "LOOK_AGAIN_S", 0)
    return load


@pytest.fixture
def threads(monkeypatch):
    """What torch is told; in earnest, forks of this process could not compute any more."""
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


@pytest.mark.parametrize(("others", "expected"), [(0, 8), (2.2, 6), (7.9, 1), (8, 1)])
def test_computes_on_the_cores_that_others_leave_idle(load, threads, others, expected):
    load["others"] = others
    on_free_cores(print)
    assert threads == [expected]


def test_what_becomes_free_is_used(load, threads):
    load["others"] = 6
    told = []
    report = on_free_cores(lambda done, total: told.append((done, total)))
    # What it uses itself is its own.
    load |= {"others": 1, "this": 2}
    report(1, 2)
    assert threads == [2, 7]
    assert told == [(1, 2)]
