"""The list of threats names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_list_names_is_there():
    text = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"def (test_\w+)\(", path.read_text()))
    assert len(named) > 50
    assert sorted(named - there) == []


def test_every_file_of_tests_here_is_in_the_list():
    """By one of its tests, or as a whole."""
    text = (ROOT / "docs" / "security.md").read_text()
    for path in Path(__file__).parent.glob("test_*.py"):
        names = re.findall(r"def (test_\w+)\(", path.read_text())
        listed = [name for name in names if f"`{name}`" in text]
        assert listed or path.name in text or path.name == Path(__file__).name, path.name
