import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from biosegment.cli import app
from biosegment.cli.console import console
from biosegment.cli.info import extra_is_installed
from biosegment.errors import ChoiceError, UnreadableFileError, UnsupportedFormatError
from importers import READERS
from importers.testing import example


@pytest.fixture
def run(monkeypatch):
    """Run a command; returns what it printed, raises what it raised."""
    monkeypatch.setattr(console, "width", 300)

    def run_command(*arguments):
        done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run_command


@pytest.fixture
def facts(run):
    return lambda *arguments: json.loads(run("info", *arguments, "--json"))


def write_channels(path):
    stack = np.stack([example("uint16")] * 2)
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (40, 5, 4), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"}
    metadata = {"axes": "CZYX", "Channel": {"Name": ["SE", "BSE"]}, **sizes, **units}
    tifffile.imwrite(path, stack, metadata=metadata, tile=(16, 32), compression="zlib")
    return path


def test_facts_as_json(facts, tmp_path):
    path = write_channels(tmp_path / "stack.ome.tif")
    found = facts(path, "--channel", 1)
    assert found.pop("metadata")["pixel size"] == "5 x 4 nm (y, x)"
    assert found == {
        "file": str(path),
        "reader": "tiff",
        "dataset": None,
        "shape": [5, 37, 53],
        "dtype": "uint16",
        "voxel_size_nm": pytest.approx([40, 5, 4]),
        "channels": 2,
        "channel_names": ["SE", "BSE"],
        "times": 1,
        "chunks": [1, 16, 32],
        "notices": [],
    }


def test_facts_in_words(run, tmp_path):
    said = run("info", write_channels(tmp_path / "stack.ome.tif"))
    for text in ("5 x 37 x 53 (z, y, x), uint16", "40 x 5 x 4 nm", "2 (0 SE, 1 BSE)", "tiff"):
        assert text in said


def test_a_gap_and_an_unknown_voxel_size_are_told(run, facts, tmp_path):
    for z in (1, 2, 3, 5):
        Image.new("L", (4, 3)).save(tmp_path / f"s{z}.png")
    assert "Slice 4 is missing between s3.png and s5.png." in run("info", tmp_path)
    assert facts(tmp_path)["voxel_size_nm"] is None


def test_an_implausible_voxel_size_is_told(facts, tmp_path):
    path = tmp_path / "stack.ome.tif"
    sizes = {f"PhysicalSize{axis}": 5.0 for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "XYZ"}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes, **units})
    (notice,) = facts(path)["notices"]
    assert "5e+06 x 5e+06 x 5e+06 nm in stack.ome.tif cannot be used" in notice


def test_several_volumes_are_listed_until_one_is_chosen(run, facts, tmp_path):
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(example("uint8"), metadata={"axes": "ZYX", "Name": "raw"})
        writer.write(example("uint16")[:, :8], metadata={"axes": "ZYX", "Name": "overview"})
    found = facts(path)
    assert (found["reader"], found["shape"]) == ("tiff", None)
    listed = [(one["dataset"], one["shape"], one["dtype"]) for one in found["datasets"]]
    assert listed == [("raw", [5, 37, 53], "uint8"), ("overview", [5, 8, 53], "uint16")]
    assert "choose one with --dataset" in run("info", path)
    chosen = facts(path, "--dataset", "overview")
    assert (chosen["dataset"], chosen["shape"]) == ("overview", [5, 8, 53])


def test_what_cannot_be_read_or_chosen_is_an_error(run, tmp_path):
    path = write_channels(tmp_path / "stack.ome.tif")
    with pytest.raises(ChoiceError, match=r"0 SE, 1 BSE\) and no channel 2"):
        run("info", path, "--channel", 2)
    with pytest.raises(ChoiceError, match="no dataset raw"):
        run("info", path, "--dataset", "raw")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableFileError):
        run("info", path)
    path.write_text("no volume")
    with pytest.raises(UnsupportedFormatError, match=r"tiff: .*; image_folder: "):
        run("info", path)


def test_every_format_is_listed(run):
    said = run("formats")
    for name, reader in READERS.items():
        assert name in said
        assert all(suffix in said for suffix in reader.SUFFIXES)
    assert "multi-page, BigTIFF" in said


def test_an_extra_that_is_not_there_is_not_installed():
    assert extra_is_installed("ml")
    assert not extra_is_installed("dev-of-another-age")
