"""What every script here has in common: jobs to do, and answers that the tests compare.

``python with_PROGRAM.py FOLDER JOBS`` goes through the lines of JOBS and leaves in FOLDER, for
each, KEY.npy with the voxels, (z, y, x), and KEY.json with what else the program told:
``voxel_size_um`` (z, y, x), ``names`` and ``colours`` of label values, or ``error``. Where a file
has no values, but outlines or surfaces, the voxels count these from 1, and ``parts`` are their
names and colours.
"""

import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM_TIMEOUT_S = 100


@dataclass(frozen=True)
class Job:
    key: str
    format: str
    """Name of the writer."""
    path: str
    layer: str
    """Which one to read of a file that may hold several: ``image``, ``labels``, or a class."""
    content: str
    """What the file was given, ``both`` for an image and labels."""
    shape: tuple[int, ...]
    """Extent (z, y, x), for files that do not tell it."""
    voxel_um: tuple[float, ...]
    """Edges (z, y, x), for the same."""


def jobs() -> Iterator[Job]:
    for line in Path(sys.argv[2]).read_text(encoding="utf-8").splitlines():
        *texts, shape, voxel_um = line.split("\t")
        numbers = [int(size) for size in shape.split(",")]
        yield Job(*texts, tuple(numbers), tuple(float(edge) for edge in voxel_um.split(",")))


def folder() -> Path:
    return Path(sys.argv[1])


def let_answer(command: list[str]) -> None:
    """Run a program that leaves its own files beside the answers, which take their place later.

    If it fails, or waits for ever for somebody to close a window, jobs that it has not done fail.
    """
    try:
        subprocess.run(command, check=True, timeout=PROGRAM_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        traceback.print_exc()


def answer_all(read: Callable[[Job], dict[str, Any]]) -> None:
    """Do all jobs with a function that returns ``voxels`` and whatever else it found."""
    for job in jobs():
        try:
            told = read(job)
        except Exception:  # noqa: BLE001 (of any library; the other files are to be read)
            told = {"error": traceback.format_exc()}
        if (voxels := told.pop("voxels", None)) is not None:
            np.save(folder() / f"{job.key}.npy", voxels)
        answer = folder() / f"{job.key}.json"
        answer.write_text(json.dumps(told, default=float), encoding="utf-8")


def names_of_lines(text: str) -> dict[int, str]:
    """Return names that stand in lines such as ``2: vesicles``."""
    lines = [line.split(": ", 1) for line in text.splitlines()]
    return {int(line[0]): line[1] for line in lines if len(line) == 2 and line[0].isdecimal()}
