"""Preprocessing on the way into a store."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from biosegment.errors import LinkError, SettingsError, VolumeExistsError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice
from importers.convert import import_volume
from importers.detect import open_volume
from importers.preprocessing.parse import parse_steps
from importers.preprocessing.reader import Preprocessed
from importers.preprocessing.testing import noisy

TEXT = "denoise=nlm,normalise=slice,clahe=64,bin=1x2x2,invert"
STEPS = parse_steps(TEXT)


@pytest.fixture
def source(tmp_path):
    """A file of two channels, the second of which is meant; voxels of 40 x 5 x 4 nm."""
    path = tmp_path / "a.ome.tif"
    volume = noisy((3, 150, 170)).astype("uint16") * 30
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (40, 5, 4), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"}
    channels = np.stack([volume[::-1], volume])
    tifffile.imwrite(path, channels, tile=(64, 64), metadata={"axes": "CZYX", **sizes, **units})
    return path


def load(source, data_root, steps=STEPS, **options):
    return import_volume(source, data_root, "a", choice=Choice(channel=1), steps=steps, **options)


def everything(store):
    return store.read(Roi.whole(store.shape))


def test_the_store_holds_what_the_steps_make_of_the_volume(source, tmp_path):
    store = load(source, tmp_path)
    assert (store.shape, store.dtype) == ((3, 75, 85), "uint16")
    assert store.voxel_size == VoxelSize(40, 10, 8)
    with open_volume(source, Choice(channel=1)) as reader:
        wanted = Preprocessed(reader, STEPS).read(Roi(0, 0, 0, 3, 75, 85))
    np.testing.assert_array_equal(everything(store), wanted)


def test_large_slices_pass_in_bands(source, tmp_path, monkeypatch):
    whole = everything(load(source, tmp_path / "whole"))
    monkeypatch.setattr("importers.convert._LARGE_SLICE_BYTES", 1000)
    monkeypatch.setattr("importers.convert.SHARD_PX", 32)
    monkeypatch.setattr("importers.preprocessing.reader._HELD_BYTES", 20_000)
    monkeypatch.setattr("importers.preprocessing.reader._CELL_PX", 16)
    np.testing.assert_array_equal(everything(load(source, tmp_path / "bands")), whole)


def test_the_store_tells_the_steps_and_where_the_raw_volume_is(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = load(Path(source.name), tmp_path).source
    assert parse_steps(",".join(kept["preprocess"])) == STEPS
    choice = Choice(kept["dataset"], kept["channel"], kept["time"])
    monkeypatch.chdir("/")
    with open_volume(Path(kept["path"]), choice) as reader:
        np.testing.assert_array_equal(
            reader.read(Roi.whole(reader.info.shape)), tifffile.imread(source)[1]
        )


def test_the_same_steps_again_are_found_and_others_are_another_volume(source, tmp_path):
    load(source, tmp_path)
    told = []
    load(source, tmp_path, progress=lambda *now: told.append(now))
    assert told == []
    with pytest.raises(VolumeExistsError, match=r"a\.ome\.tif, 3 x 75 x 85 voxels, denoise=nlm"):
        load(source, tmp_path, parse_steps("invert"))
    with pytest.raises(VolumeExistsError, match="denoise=nlm"):
        load(source, tmp_path, ())


def test_a_volume_as_recorded_is_not_a_preprocessed_one(source, tmp_path):
    load(source, tmp_path, ())
    with pytest.raises(VolumeExistsError, match="not preprocessed"):
        load(source, tmp_path)


def interrupt_at(block, told):
    def progress(done, total):
        told.append(done)
        if done == block:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(("interrupted", "begins_at"), [(TEXT, 2), ("bin=1x2x2", 0)])
def test_an_interrupted_import_goes_on_with_the_same_steps_only(
    source, tmp_path, interrupted, begins_at
):
    with pytest.raises(KeyboardInterrupt):
        load(source, tmp_path / "data", parse_steps(interrupted), progress=interrupt_at(2, []))
    told = []
    store = load(source, tmp_path / "data", progress=interrupt_at(None, told))
    assert told == list(range(begins_at, 4))
    np.testing.assert_array_equal(everything(store), everything(load(source, tmp_path / "whole")))


def test_a_voxel_size_that_is_given_is_that_of_the_file(source, tmp_path):
    assert load(source, tmp_path, voxel_size=VoxelSize(30, 6, 6)).voxel_size.zyx == (30, 12, 12)
    assert load(source, tmp_path, voxel_size=VoxelSize(50, 7, 7)).voxel_size.zyx == (50, 14, 14)


def test_a_linked_volume_cannot_be_preprocessed(source, tmp_path):
    with pytest.raises(LinkError, match="preprocessed has to be a copy"):
        load(source, tmp_path, link=True)


def test_a_step_that_does_not_fit_leaves_nothing(source, tmp_path):
    with pytest.raises(SettingsError, match="cannot bin 3 x 150 x 170"):
        load(source, tmp_path / "data", parse_steps("bin=4"))
    assert not list((tmp_path / "data").rglob("*.zarr"))


def test_a_real_stack_keeps_its_contrast_when_inverted_twice(sample_stack, tmp_path):
    store = import_volume(sample_stack.raw, tmp_path, "a", steps=parse_steps("invert,invert"))
    np.testing.assert_array_equal(everything(store), tifffile.imread(sample_stack.raw))
