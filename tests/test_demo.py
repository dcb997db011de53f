"""``biosegment demo`` from an empty folder to the learning curve, and once more."""

import os
import re
import time

import pytest
from PIL import Image

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SAMPLE = "vnc" if "BIOSEGMENT_TEST_DATA" in os.environ else "synthetic"


@pytest.fixture(scope="module")
def demo(tmp_path_factory, new_stack):
    stack = new_stack(tmp_path_factory.mktemp("demo"))

    def run(labels):
        ports = ["--port", str(stack.port), "--backend-port", str(stack.backend_port)]
        arguments = ["--sample", SAMPLE, "--simulate", str(labels), "--exit", *ports]
        return stack.cli("demo", *arguments, BIOSEGMENT_TRAINING_EFFORT="0.05")

    return stack, run


def test_the_simulated_expert_ends_with_a_curve(demo):
    stack, run = demo
    done = run(6)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "160 tasks added" in done.stdout
    rows = re.findall(r"(\d{4}-\d{8}T\d{6}) +│ +(\d+) +│ +(0\.\d{3})", done.stdout)
    assert [int(labels) for _, labels, _ in rows] == [3, 6]
    plot = stack.data_root / "demo" / f"learning-curve-{SAMPLE}.png"
    with Image.open(plot) as image:
        assert image.size[0] > 400
    assert stack.pids("label-studio") == []
    assert stack.pids("ml_backend") == []
    assert stack.pids("redis-server") == []


def test_it_takes_up_where_it_stopped(demo):
    stack, run = demo
    began = time.monotonic()
    done = run(6)
    assert time.monotonic() - began < 120
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 tasks added, 160 in all" in done.stdout
    assert "has labelled 6 of 6 tasks" in done.stdout
    assert len(list((stack.data_root / "models" / "1").glob("0*"))) == 2
