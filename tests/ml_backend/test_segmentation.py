import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from biosegment.errors import (
    DiskFullError,
    LabelsBusyError,
    ModelNotFoundError,
    SegmentationExistsError,
)
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import map_levels, with_map
from biosegment.store import VolumeStore, volume_path
from biosegment.unfinished_labels import UnfinishedLabels, write_blocks
from ml_backend.segmentation import UNCERTAINTY, Segmentation, SegmentationPlan
from ml_backend.strategies.measures import entropy

SHAPE = (3, 144, 200)
VERSION = "0001-20261122T101530"
PLAN = SegmentationPlan(7, VERSION)
WHOLE = Roi.whole(SHAPE)


pytestmark = pytest.mark.usefixtures("full_precision")


def quiet(*_):
    pass


@pytest.fixture
def registry(tmp_path, network, registered):
    return registered(tmp_path / "data", network, VERSION)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "data", "em")


def make_store(data_root, name, array=None):
    path = volume_path(data_root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(0).integers(0, 256, (3, 36, 50))
    array = coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8) if array is None else array
    store = VolumeStore.create(path, SHAPE, np.uint8, VoxelSize(40, 5, 4))
    store.write(WHOLE, array)
    store.finish((0.0, 255.0), {})
    return VolumeStore.open(data_root, name)


def carried_out(segmentation, name="cells", overwrite=False, progress=quiet, **options):
    with segmentation.begin(name, overwrite=overwrite) as labels:
        return segmentation.run(labels, progress, **options)


def missing(segmentation):
    with segmentation.begin("cells") as labels:
        return labels.missing()


def segmented(store, registry, name="cells", **changes):
    assert carried_out(Segmentation(store, registry, replace(PLAN, **changes)), name)
    return store.read_labels(name, WHOLE)


def expected(store, network):
    """Return the probabilities of whole slices, (C, z, y, x), by the network alone."""
    images = torch.from_numpy(store.read_unit(WHOLE)).unsqueeze(1)
    with torch.inference_mode():
        return network(images).softmax(dim=1).numpy().transpose(1, 0, 2, 3)


def files(store):
    root = store.path / "labels"
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def small_files(monkeypatch):
    """Units of work smaller than a slice."""
    monkeypatch.setattr("biosegment.ome_zarr.SHARD_PX", 64)
    monkeypatch.setattr("biosegment.ome_zarr._CHUNK_PX", 64)
    monkeypatch.setattr("ml_backend.segmentation.SHARD_PX", 64)


def test_every_pixel_gets_what_the_whole_slice_gives(store, registry, network, small_files):
    probs = expected(store, network)
    for patch_px in (16, 64):
        name = f"by-{patch_px}"
        found = segmented(
            store, registry, name, patch_px=patch_px, probabilities=True, uncertainty=True
        )
        assert len(np.unique(found)) > 1
        assert (found == probs.argmax(axis=0)).mean() > 0.9999
        for value, which in ((1, "probability-cell"), (2, "probability-vesicle")):
            gap = map_levels(store, name, which)[0].read(WHOLE) - 255 * probs[value]
            assert np.abs(gap).max() < 0.51
        gap = map_levels(store, name, UNCERTAINTY)[0].read(WHOLE) - 255 * entropy(probs)
        assert np.abs(gap).max() < 0.51


def test_labels_are_listed_with_names_levels_and_what_made_them(store, registry):
    segmented(store, registry)
    assert store.label_names == ("cells",)
    assert store.class_names("cells") == ("cell", "vesicle")
    source = store.labels_source("cells")
    assert (source["version"], source["project_id"], source["flips"]) == (VERSION, 7, False)
    assert source["weights_sha256"] == registry.card(7, VERSION).weights_sha256


def test_averaged_over_flips_a_flipped_volume_gives_the_flipped_result(
    tmp_path, store, registry, network
):
    plain = segmented(store, registry, "plain")
    flipped = make_store(tmp_path / "data", "flipped", store.read(WHOLE)[:, ::-1, ::-1])
    there = segmented(store, registry, "flips", flips=True)
    back = segmented(flipped, registry, "flips", flips=True)[:, ::-1, ::-1]
    assert (there == back).mean() > 0.9999
    assert (there != plain).any()


def test_an_interrupted_one_goes_on_and_gives_the_same_bytes(
    tmp_path, store, registry, small_files, monkeypatch
):
    other = make_store(tmp_path / "other", "em")
    segmented(other, registry, uncertainty=True)
    plan = replace(PLAN, uncertainty=True)
    segmentation = Segmentation(store, registry, plan)
    total = len(segmentation.units)
    done = []
    mark = UnfinishedLabels.mark

    def dying(self, unit):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(unit)
        mark(self, unit)

    monkeypatch.setattr(UnfinishedLabels, "mark", dying)
    with pytest.raises(KeyboardInterrupt):
        carried_out(segmentation)
    assert store.label_names == ()
    monkeypatch.setattr(UnfinishedLabels, "mark", mark)
    again = Segmentation(store, registry, plan)
    reports = []
    assert carried_out(again, progress=lambda *report: reports.append(report))
    # The five hold as much as seven of the average.
    assert reports[0] == (7, total)
    assert reports[-1] == (total, total)
    assert files(store) == files(other)
    assert list((store.path.parent / ".segmenting").glob("*.done")) == []


def test_it_pauses_between_units_and_goes_on(store, registry, small_files):
    segmentation = Segmentation(store, registry, PLAN)
    assert not carried_out(segmentation, pause=lambda: True)
    assert len(missing(segmentation)) == len(segmentation.units) - 1
    assert store.label_names == ()
    assert carried_out(segmentation)
    assert store.label_names == ("cells",)


def test_another_plan_begins_anew(store, registry, small_files):
    carried_out(Segmentation(store, registry, PLAN), pause=lambda: True)
    second = Segmentation(store, registry, replace(PLAN, flips=True))
    assert len(missing(second)) == len(second.units)


def test_one_process_at_a_time_makes_them(store, registry):
    segmentation = Segmentation(store, registry, PLAN)
    with segmentation.begin("cells"), pytest.raises(LabelsBusyError, match="another process"):
        segmentation.begin("cells")
    assert carried_out(segmentation)


def test_finished_labels_stay_unless_they_are_to_be_replaced(store, registry):
    before = segmented(store, registry)
    again = Segmentation(store, registry, replace(PLAN, flips=True))
    with pytest.raises(SegmentationExistsError, match=r"'cells' already.*--overwrite"):
        again.begin("cells")
    np.testing.assert_array_equal(store.read_labels("cells", WHOLE), before)
    assert carried_out(again, overwrite=True)
    assert store.labels_source("cells")["flips"] is True


def test_a_version_that_is_gone_is_told(store, registry):
    with pytest.raises(ModelNotFoundError):
        Segmentation(store, registry, replace(PLAN, version="0009-20261122T101530"))


def test_a_full_disk_keeps_what_is_done(store, registry, small_files, monkeypatch):
    segmentation = Segmentation(store, registry, PLAN)

    def full(store, name, roi, blocks):
        if roi.z == 1:
            raise OSError(28, "No space left on device")
        write_blocks(store, name, roi, blocks)

    monkeypatch.setattr("ml_backend.segmentation.write_blocks", full)
    with pytest.raises(DiskFullError):
        carried_out(segmentation)
    assert 0 < len(missing(segmentation)) < len(segmentation.units)
    assert store.label_names == ()


def test_maps_are_images_that_other_programs_open(store, registry):
    segmented(store, registry, uncertainty=True)
    folder = store.path / "labels" / "cells" / "maps" / UNCERTAINTY
    ome = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["multiscales"][0]["datasets"][0]["path"] == "0"
    assert ome["multiscales"][0]["axes"][0]["unit"] == "nanometer"
    assert with_map(store, UNCERTAINTY) == ("cells",)
    assert with_map(store, "probability-cell") == ()
