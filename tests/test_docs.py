"""The documentation names everything there is."""

import dataclasses
import re
from pathlib import Path

import pytest

from biosegment.cli import app
from biosegment.settings import LoopOptions, Settings
from exporters import WRITERS
from importers import READERS
from importers.preprocessing import STEPS
from ml_backend.strategies import STRATEGIES

ROOT = Path(__file__).parent.parent
TEXT = "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = [c.name or c.callback.__name__ for c in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described(command):
    assert f"biosegment {command}" in TEXT


@pytest.mark.parametrize("name", [*Settings().environment(), "BIOSEGMENT_TEST_DATA"])
def test_every_setting_is_described(name):
    assert f"`{name}`" in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("option", [field.name for field in dataclasses.fields(LoopOptions)])
def test_every_loop_option_is_described(option):
    assert f"`{option}`" in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_every_strategy_is_described(name):
    assert f"`{name}`" in TEXT


def test_every_reader_is_described():
    assert {"tiff", "image_folder"} <= set(READERS)
    table = (ROOT / "docs" / "formats.md").read_text()
    for name in READERS:
        assert f"`{name}`" in table


@pytest.mark.parametrize("name", [*WRITERS])
def test_every_writer_is_described(name):
    table = (ROOT / "docs" / "formats.md").read_text().partition("## Volumes out")[2]
    assert f"| `{name}` |" in table


@pytest.mark.parametrize("name", [*STEPS])
def test_every_preprocessing_step_is_described(name):
    assert f"| `{name}` |" in (ROOT / "docs" / "formats.md").read_text()


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
