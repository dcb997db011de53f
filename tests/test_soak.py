"""A short day of work on a stack that is broken on purpose; `make soak` plays a longer one."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

FAULTS = ("redis-lost", "clock-back")
"""Those that heal quickly, and that no other test knows."""


def test_a_broken_stack_heals_and_keeps_its_promises(tmp_path):
    log = tmp_path / "soak.log"
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0", "--seed", "1"]
    options = ["--slices", "2", "--faults", ",".join(FAULTS), "--log", str(log)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("BIOSEGMENT")
    }
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = log.read_text()
    assert "violations: 0" in said
    for fault in FAULTS:
        assert f"healed    {fault}: " in said
