"""The rules of the layout, read from the source: who may import whom, and what lives where."""

import ast
import subprocess
import sys
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

import exporters
import importers
from biosegment.registry import LazyRegistry
from exporters.base import VolumeWriter
from importers import preprocessing
from importers.base import VolumeReader
from importers.preprocessing.base import Step
from ml_backend import strategies
from ml_backend.strategies.base import QueryStrategy

ROOT = Path(__file__).parents[1]
PACKAGES = ("biosegment", "importers", "exporters", "ml_backend")
ML_ONLY = ("torch", "pytorch_lightning", "lightning", "monai", "flask", "redis", "rq")
CLI = PurePosixPath("biosegment/cli")
READ_ENVIRONMENT = tuple(f"biosegment/{name}.py" for name in ("settings", "stack", "supervisor"))
MAX_LINES = 400

SOURCES = {
    PurePosixPath(path.relative_to(ROOT).as_posix()): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@dataclass(frozen=True, slots=True)
class Import:
    module: str
    at_load: bool
    """Whether importing the module that says so already carries it out."""


def imports(node: ast.AST, at_load: bool = True) -> Iterator[Import]:
    """Yield all absolute imports below a node; relative ones cannot leave their package."""
    match node:
        case ast.Import():
            for name in node.names:
                yield Import(name.name, at_load)
        case ast.ImportFrom(level=0, module=str(module)):
            yield Import(module, at_load)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            at_load = False
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            for child in node.body:
                yield from imports(child, at_load=False)
            for child in node.orelse:
                yield from imports(child, at_load)
            return
    for child in ast.iter_child_nodes(node):
        yield from imports(child, at_load)


def wrong_imports(path: PurePosixPath, source: str) -> list[str]:
    """Return the modules that the module at `path` must not import."""
    package = path.parts[0]
    others = set(PACKAGES) - {package, "biosegment"}
    if package != "ml_backend":
        others |= set(ML_ONLY)
    return [
        found.module
        for found in imports(ast.parse(source))
        if found.module.split(".")[0] in others and (found.at_load or not path.is_relative_to(CLI))
    ]


def reads_environment(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name("os"), attr="environ" | "getenv"):
                return True
            case ast.ImportFrom(module="os", names=names):
                if {"environ", "getenv"} & {name.name for name in names}:
                    return True
    return False


def prints(source: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        for node in ast.walk(ast.parse(source))
    )


def test_dependencies_point_one_way():
    wrong = {str(path): wrong_imports(path, source) for path, source in SOURCES.items()}
    assert {path: modules for path, modules in wrong.items() if modules} == {}


def test_environment_is_read_in_one_place():
    readers = [path for path, source in SOURCES.items() if reads_environment(source)]
    allowed = {PurePosixPath(name) for name in READ_ENVIRONMENT}
    assert [path for path in readers if path not in allowed and not path.is_relative_to(CLI)] == []


def test_only_the_command_line_prints():
    printing = [path for path, source in SOURCES.items() if prints(source)]
    assert [path for path in printing if not path.is_relative_to(CLI)] == []


def test_modules_stay_small():
    lines = {str(path): source.count("\n") for path, source in SOURCES.items()}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}


def test_no_test_folder_hides_a_package():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_importing_needs_nothing_of_the_backend():
    """The whole import chain, third-party packages included, loads without torch or a server."""
    shipped = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        # Test suites need pytest; the settings belong to Label Studio's own process.
        if path.parts[0] != "ml_backend"
        and path.name not in {"testing.py", "label_studio_settings.py"}
    ]
    script = (
        "import importlib, sys\n"
        f"for name in {shipped}: importlib.import_module(name)\n"
        f"print(*(set({ML_ONLY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


@pytest.mark.parametrize(
    ("package", "family", "kind"),
    [
        ("importers", importers.READERS, VolumeReader),
        ("exporters", exporters.WRITERS, VolumeWriter),
        ("importers.preprocessing", preprocessing.STEPS, Step),
        ("ml_backend.strategies", strategies.STRATEGIES, QueryStrategy),
    ],
    ids=["readers", "writers", "steps", "strategies"],
)
def test_every_member_of_a_family_loads(package: str, family: LazyRegistry, kind: type[ABC]):
    assert family
    for name, member in family.items():
        assert issubclass(member, kind), name
        assert member.__module__.startswith(f"{package}."), name


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("importers/a.py", "import torch.nn as nn", ["torch.nn"]),
        ("importers/a.py", "from rq import Queue", ["rq"]),
        ("importers/a.py", "import ml_backend.dataset", ["ml_backend.dataset"]),
        ("importers/a.py", "import biosegment.store, importers.tiff, torchmetrics", []),
        ("exporters/a.py", "def f():\n    from importers import READERS", ["importers"]),
        ("biosegment/a.py", "if True:\n    import exporters", ["exporters"]),
        ("biosegment/a.py", "class A:\n    import flask", ["flask"]),
        ("biosegment/a.py", "if TYPE_CHECKING:\n    import importers", ["importers"]),
        ("biosegment/a.py", "from . import importers", []),
        ("biosegment/cli/a.py", "import importers", ["importers"]),
        ("biosegment/cli/a.py", "try:\n    import redis\nfinally:\n    pass", ["redis"]),
        ("biosegment/cli/a.py", "def f():\n    import importers, torch", []),
        ("biosegment/cli/a.py", "if TYPE_CHECKING:\n    import importers", []),
        ("biosegment/cli/a.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import rq", ["rq"]),
        ("ml_backend/a.py", "import torch, redis, biosegment.store", []),
        ("ml_backend/a.py", "import importers.tiff", ["importers.tiff"]),
    ],
)
def test_wrong_imports_are_seen(path: str, source: str, wrong: list[str]):
    assert wrong_imports(PurePosixPath(path), source) == wrong


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import os\nx = os.environ['HOME']", True),
        ("import os\ndef f(e=os.environ): ...", True),
        ("import os\nx = os.getenv('HOME')", True),
        ("from os import environ", True),
        ("import os\nx = os.getpid()", False),
    ],
)
def test_reads_of_the_environment_are_seen(source: str, seen: bool):
    assert reads_environment(source) is seen


def test_prints_are_seen():
    assert prints("def f():\n    print('x')")
    assert not prints("console.print('x')")


def test_all_packages_are_read():
    assert {path.parts[0] for path in SOURCES} == set(PACKAGES)
