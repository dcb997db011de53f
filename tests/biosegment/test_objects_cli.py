"""``biosegment objects`` and ``biosegment measure``, which need no server."""

import csv
import sys

import numpy as np
import pytest

from biosegment.cli import main
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore, volume_path

SHAPE = (4, 30, 40)


@pytest.fixture
def store(tmp_path):
    store = VolumeStore.create(
        volume_path(tmp_path / "data", "brain"), SHAPE, "uint8", VoxelSize(50, 10, 10)
    )
    store.finish((0, 255), {})
    values = np.zeros(SHAPE, np.uint8)
    values[1:3, 5:15, 5:15] = values[1:3, 20:25, 20:30] = 1
    values[3, 2, 2] = 1
    store.create_labels("cells", ["cell"])
    store.write_labels("cells", Roi.whole(SHAPE), values)
    store.finish_labels("cells")
    return store


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, store):
    """Run a command beside the data; returns the exit code and what was printed."""

    def command(*arguments):
        for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("BIOSEGMENT_DATA", str(tmp_path / "data"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["biosegment", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return command


def test_from_labels_to_a_table(run, tmp_path):
    code, out, _ = run("objects", "brain", "--min-voxels", "5")
    assert (code, "2 objects: labels 'cells-objects'" in out) == (0, True)
    told = "sample,volume,condition\nA7,brain,control\n"
    (tmp_path / "experiment.csv").write_text(told)
    code, out, _ = run("measure", "brain", "--out", "out", "--experiment", "experiment.csv")
    assert code == 0
    files = ["classes.csv", "classes.parquet", "measurements.png", "objects.csv", "objects.parquet"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert all(f"out/{name} written" in out for name in files)
    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sample"], row["class"], row["voxels"]) for row in rows] == [
        ("A7", "cell", "200"),
        ("A7", "cell", "100"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["objects", "brian"], "no volume 'brian'"),
        (["objects", "brain", "--labels", "nuclei"], "no labels 'nuclei'"),
        (["objects", "brain", "--connectivity", "8"], "6, 18 or 26, not 8"),
        (["objects", "brain", "--split-distance", "0"], "is above 0 nm"),
        (["objects", "brain", "--split-probability", "1.5"], "is between 0 and 1"),
        (["objects", "brain", "--split-probability", "0.5"], "segment brain --probabilities"),
        (
            ["objects", "brain", "--split-distance", "9", "--split-probability", "0.5"],
            "exclude each other",
        ),
        (["objects", "brain", "--name", "../x"], "'../x'"),
        (["measure", "brain", "--out", "out"], "make them by `biosegment objects`"),
        (["measure", "brain", "--labels", "cells", "--out", "out"], "objects brain --labels cells"),
        (["measure", "brain", "brian", "--out", "out"], "no volume 'brian'"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, tmp_path, arguments, said):
    code, _, error = run(*arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert said in error


def test_what_is_there_is_kept_unless_it_is_asked_to_go(run, tmp_path, store):
    assert run("objects", "brain")[0] == 0
    code, _, error = run("objects", "brain")
    assert (code, "--overwrite" in error) == (1, True)
    assert run("objects", "brain", "--overwrite", "--labels", "cells")[0] == 0
    assert run("measure", "brain", "--out", "out")[0] == 0
    code, _, error = run("measure", "brain", "--out", "out")
    assert (code, "--force" in error) == (1, True)
    assert run("measure", "brain", "--out", "out", "--force")[0] == 0
    (tmp_path / "file").write_text("")
    code, _, error = run("measure", "brain", "--out", "file")
    assert (code, "cannot be made a folder" in error) == (1, True)


def test_which_labels_has_to_be_said_where_there_are_several(run, store):
    store.create_labels("nuclei", ["nucleus"])
    store.finish_labels("nuclei")
    code, _, error = run("objects", "brain")
    assert (code, "brain has cells, nuclei" in error) == (1, True)
    for labels in ("cells", "nuclei"):
        assert run("objects", "brain", "--labels", labels)[0] == 0
    code, _, error = run("measure", "brain", "--out", "out")
    assert (code, "brain has cells-objects, nuclei-objects" in error) == (1, True)
