import subprocess
import sys
from fractions import Fraction

import pytest

from biosegment.registry import LazyRegistry


def test_a_member_is_loaded_by_name():
    registry = LazyRegistry({"fraction": "fractions:Fraction"})
    assert registry["fraction"] is Fraction


def test_names_are_known_without_loading_anything():
    registry = LazyRegistry({"broken": "no_such_module:Thing", "fraction": "fractions:Fraction"})
    assert list(registry) == ["broken", "fraction"]
    assert "broken" in registry
    assert "other" not in registry
    assert len(registry) == 2


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(KeyError, match="'b' is not one of: a, c"):
        LazyRegistry({"a": "x:y", "c": "x:z"})["b"]


def test_importing_a_family_imports_none_of_its_members():
    code = "import importers, sys; print('importers.tiff' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
