import csv

import numpy as np
import pytest
from pyarrow import parquet

from biosegment.errors import DiskFullError, SettingsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.objects import tables as module
from biosegment.objects.instances import ObjectsPlan, make_objects
from biosegment.objects.measurements import measure
from biosegment.objects.plots import plot
from biosegment.objects.tables import read_experiment, tables, write_tables
from biosegment.store import VolumeStore, volume_path

SHAPE = (6, 20, 30)
CLASSES = ("mitochondria", 'ves"icles, small', "never seen")


@pytest.fixture
def measured(tmp_path):
    def make(name, count):
        store = VolumeStore.create(
            volume_path(tmp_path, name), SHAPE, "uint8", VoxelSize(50, 10, 10)
        )
        store.finish((0, 255), {})
        store.create_labels("classes", CLASSES)
        values = np.zeros(SHAPE, np.uint8)
        for number in range(count):
            values[1:3, 2:6, 3 * number : 3 * number + 2] = 1
        values[4, 10:12, 10:12] = 2
        store.write_labels("classes", Roi.whole(SHAPE), values)
        store.finish_labels("classes")
        make_objects(store, ObjectsPlan("classes"), "objects", lambda *_: None)
        return measure(store, "objects", lambda *_: None)

    return make


@pytest.fixture
def experiment(tmp_path):
    def write(text):
        path = tmp_path / "experiment.csv"
        path.write_bytes(text.encode())
        return path

    return write


def test_a_row_for_each_object_and_each_class(measured):
    objects, classes = tables([measured("one", 2), measured("two", 3)])
    assert objects.column("volume").to_pylist() == ["one"] * 3 + ["two"] * 4
    assert objects.column("object").to_pylist() == [1, 2, 3, 1, 2, 3, 4]
    first = objects.to_pylist()[1]
    assert (first["class"], first["voxels"]) == ("mitochondria", 16)
    assert [first[f"{axis}_{end}"] for axis in "zyx" for end in ("from", "to")] == [
        1,
        3,
        2,
        6,
        3,
        5,
    ]
    assert first["volume_um3"] == pytest.approx(16 * 0.05 * 0.01 * 0.01)
    assert first["centreline_um"] is None
    # The first object lies at the border of the volume.
    assert objects.to_pylist()[0]["touches_border"] is True
    assert objects.to_pylist()[0]["sphericity"] is None
    rows = classes.to_pylist()
    assert [(row["volume"], row["class"], row["objects"]) for row in rows] == [
        *(("one", name, count) for name, count in zip(CLASSES, (2, 1, 0), strict=True)),
        *(("two", name, count) for name, count in zip(CLASSES, (3, 1, 0), strict=True)),
    ]
    assert rows[0]["fraction"] == pytest.approx(32 / np.prod(SHAPE))
    assert rows[0]["objects_per_um3"] == pytest.approx(2 / (np.prod(SHAPE) * 5e-6))
    assert rows[2]["median_volume_um3"] is None


def test_what_the_experiment_says_stands_in_each_row(measured, experiment):
    path = experiment("\ufeffsample,volume,condition\r\nA,two,drug\r\nB,one,\r\nC,three,drug\r\n")
    told = read_experiment(path, ["one", "two"])
    both = [measured("one", 2), measured("two", 3)]
    for table in tables(both, told):
        assert table.column_names[:3] == ["volume", "sample", "condition"]
        found = {(row["volume"], row["sample"], row["condition"]) for row in table.to_pylist()}
        assert found == {("one", "B", ""), ("two", "A", "drug")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("volume,sample\none,A\n", "no row for the volume 'two'"),
        ("name,sample\none,A\n", "needs a column 'volume'"),
        ("", "needs a column 'volume'"),
        ("volume,sample\none,A\none,B\ntwo,C\n", "two rows for the volume 'one'"),
        ("volume,voxels\none,A\ntwo,B\n", "column 'voxels', which is measured"),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused(experiment, text, reason):
    with pytest.raises(SettingsError, match=reason):
        read_experiment(experiment(text), ["one", "two"])


def test_an_experiment_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "experiment.csv").write_bytes(b"volume,a\n\xff\xfe\x00one,b\n")
    for name in ("experiment.csv", "missing.csv"):
        with pytest.raises(SettingsError, match="cannot be read as CSV"):
            read_experiment(tmp_path / name, ["one"])


def test_both_kinds_of_file_say_the_same(measured, tmp_path):
    objects, classes = tables([measured("one", 2)])
    written = write_tables(tmp_path, {"objects": objects, "classes": classes})
    assert {path.name for path in written} == {
        *("objects.csv", "objects.parquet", "classes.csv", "classes.parquet")
    }
    for stem in ("objects", "classes"):
        stored = parquet.read_table(tmp_path / f"{stem}.parquet").to_pylist()
        with (tmp_path / f"{stem}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["class"] for row in rows] == [row["class"] for row in stored]
        for row, kept in zip(rows, stored, strict=True):
            assert float(row["volume_um3"]) == pytest.approx(kept["volume_um3"])
    assert {row["class"] for row in stored} == set(CLASSES)


def test_a_full_disk_leaves_what_was_there(measured, tmp_path, monkeypatch):
    objects, classes = tables([measured("one", 2)])
    write_tables(tmp_path, {"objects": objects})
    before = (tmp_path / "objects.csv").read_bytes()

    def full(table, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.parquet, "write_table", full)
    with pytest.raises(DiskFullError):
        write_tables(tmp_path, {"objects": classes})
    assert (tmp_path / "objects.csv").read_bytes() == before
    assert not list(tmp_path.glob(".partial*"))


def test_the_picture_shows_each_class_and_group(measured, experiment, tmp_path):
    both = [measured("one", 2), measured("two", 3)]
    told = read_experiment(experiment("volume,condition\none,control\ntwo,drug\n"), ["one", "two"])
    figure = plot(both, told)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "mitochondria: 5 objects"
    assert titles[6] == "never seen: 0 objects"
    assert len(titles) == 3 * len(CLASSES)
    shares = figure.axes[1]
    assert [label.get_text() for label in shares.get_xticklabels()] == ["control", "drug"]
    heights = [line.get_ydata()[0] for line in shares.lines]
    np.testing.assert_allclose(heights, [100 * count * 16 / np.prod(SHAPE) for count in (2, 3)])
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
