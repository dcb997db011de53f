"""What is installed is what the lock says, version for version, and nothing beside it."""

import re
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = {"biosegment", "pip"}
# Left out of the lock: they differ between machines, as the Makefile says.
LOCAL = re.compile(r"nvidia-|cuda-|triton$")


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {normalised(name): version for name, version in pins.items()}


def test_every_line_of_the_lock_is_one_exact_version():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), line


def test_what_is_installed_is_pinned_at_that_version():
    pins = pinned()
    found = {normalised(each.name): each.version.partition("+")[0] for each in distributions()}
    loose = {
        name: version
        for name, version in found.items()
        if pins.get(name) != version and name not in OWN and not LOCAL.match(name)
    }
    assert loose == {}
