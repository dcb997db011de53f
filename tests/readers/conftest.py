"""Programs and libraries of others, run to read what the writers wrote."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
ENVIRONMENT = ROOT / "build" / "readers"
INSTALLED = ENVIRONMENT / ".installed"
PYTHON = ENVIRONMENT / "bin" / "python"
IMAGEJ_JAR = Path("/usr/share/java/ij.jar")
TIMEOUT_S = 180

DEBIAN = {
    "java": "default-jre",
    "octave-cli": "octave",
    "xauth": "xauth",
    "xvfb-run": "xvfb",
    str(IMAGEJ_JAR): "imagej",
}
"""The package of each program that is not a library of Python."""
NEEDS = {
    "bioformats": ["java"],
    "netcdf_java": ["java"],
    "imagej": ["java", "xauth", "xvfb-run", str(IMAGEJ_JAR)],
    "octave": ["octave-cli"],
}


class Readers:
    """The environment `build/readers`, and the programs of others that are run from there."""

    def __init__(self, folder):
        self.folder = folder

    def read(self, reader, jobs):
        """Return what a reader found out about files.

        Parameters
        ----------
        reader
            `scripts/with_READER.py` runs it.
        jobs
            By key, the other fields of `scripts/answers.Job` in order, as text.

        Returns
        -------
        dict
            By key, what `scripts/answers.py` describes; ``voxels`` is an array.
        """
        self.require(reader)
        folder = self.folder / reader
        folder.mkdir()
        lines = ["\t".join([key, *fields]) for key, fields in jobs.items()]
        listed = folder / "jobs.tsv"
        listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
        said = self.run([SCRIPTS / f"with_{reader}.py", folder, listed])
        return {key: self._answer(folder, key, said) for key in jobs}

    def require(self, reader):
        """Fail, and say what to install, where a reader is not there."""
        lacking = [each for each in NEEDS.get(reader, ()) if not shutil.which(each)]
        lacking = [each for each in lacking if not Path(each).exists()]
        if lacking:
            packages = " ".join(DEBIAN[each] for each in lacking)
            pytest.fail(
                f"To read exported files by {reader}, install what is missing: "
                f"apt-get install --no-install-recommends {packages}",
                pytrace=False,
            )
        if not INSTALLED.exists():
            pytest.fail(
                f"To read exported files, make {ENVIRONMENT.relative_to(ROOT)}: make readers",
                pytrace=False,
            )

    def run(self, arguments: Iterable[object], timeout_s=TIMEOUT_S):
        """Run the environment's Python; returns what it and all that it started printed."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        output = self.folder / "output.txt"
        environment = os.environ | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "IMAGEJ_JAR": str(IMAGEJ_JAR),
        }
        with output.open("w") as file:
            process = subprocess.Popen(
                [PYTHON, *map(str, arguments)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"{output.read_text()}\n(no end after {timeout_s} s)"
        finally:
            # A program that waits for a window to be closed, and its X server.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return output.read_text()

    @staticmethod
    def _answer(folder, key, said):
        try:
            told = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
            assert "error" not in told, told["error"]
            told["voxels"] = np.load(folder / f"{key}.npy")
        except (OSError, ValueError):
            return {"error": f"no answer; it printed: {said[-4000:]}"}
        except AssertionError as exc:
            return {"error": str(exc)}
        for kind in ("names", "colours"):
            told[kind] = {int(value): each for value, each in told.get(kind, {}).items()}
        return told


@pytest.fixture(scope="session")
def readers(tmp_path_factory):
    return Readers(tmp_path_factory.mktemp("readers"))
