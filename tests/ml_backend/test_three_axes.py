"""Segmentation by the mean over planes along z, y and x."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from biosegment.errors import SettingsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import UNCERTAINTY, map_levels
from biosegment.store import VolumeStore, volume_path
from biosegment.unfinished_labels import UnfinishedLabels
from ml_backend.segmentation import Segmentation, SegmentationPlan, labels_name
from ml_backend.strategies.measures import entropy

SHAPE = (20, 36, 45)
VERSION = "0001-20261122T101530"
PLAN = SegmentationPlan(7, VERSION, three_axes=True, uncertainty=True, probabilities=True)
MAPS = ("probability-cell", "probability-vesicle")
CUBES = VoxelSize(8, 8.5, 8)


pytestmark = pytest.mark.usefixtures("full_precision")


def quiet(*_):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    """For so small images, threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def registry(tmp_path, network, registered):
    return registered(tmp_path / "data", network, VERSION)


def noise(shape=SHAPE):
    coarse = np.random.default_rng(0).integers(0, 256, [-(-side // 4) for side in shape])
    array = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    return array[tuple(slice(side) for side in shape)]


def make_store(data_root, name, array, voxel_size=CUBES):
    path = volume_path(data_root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    store = VolumeStore.create(path, array.shape, np.uint8, voxel_size)
    store.write(Roi.whole(array.shape), array)
    store.finish((0.0, 255.0), {})
    return VolumeStore.open(data_root, name)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "data", "em", noise())


@pytest.fixture
def small_files(monkeypatch):
    """Units of work that are many along every axis."""
    monkeypatch.setattr("biosegment.ome_zarr.SHARD_PX", 32)
    monkeypatch.setattr("biosegment.ome_zarr._CHUNK_PX", 16)
    monkeypatch.setattr("ml_backend.segmentation.SHARD_PX", 32)
    monkeypatch.setattr("ml_backend.segmentation._SCRATCH_PX", 32)
    monkeypatch.setattr("ml_backend.segmentation._SCRATCH_PLANES", 8)


def carried_out(segmentation, name="cells", progress=quiet, **options):
    with segmentation.begin(name) as labels:
        return segmentation.run(labels, progress, **options)


def segmented(store, registry, name="cells", **changes):
    """Return labels and maps."""
    assert carried_out(Segmentation(store, registry, replace(PLAN, **changes)), name)
    return {
        "labels": store.read_labels(name, Roi.whole(store.shape)),
        **{which: maps(store, name, which) for which in (*MAPS, UNCERTAINTY)},
    }


def maps(store, name, which):
    return map_levels(store, name, which)[0].read(Roi.whole(store.shape)).astype(int)


def along(network, volume):
    """Return the probabilities of whole slices (C, z, y, x), by the network alone."""
    padded = np.pad(volume, [(0, 0), *((0, -side % 4) for side in volume.shape[1:])], "reflect")
    with torch.inference_mode():
        probs = network(torch.from_numpy(padded).unsqueeze(1)).softmax(dim=1).numpy()
    return probs[..., : volume.shape[1], : volume.shape[2]].transpose(1, 0, 2, 3)


def expected(network, store):
    """Return the mean of whole planes: (y, x), (x, z) and (z, y)."""
    volume = store.read_unit(Roi.whole(store.shape))
    along_y = along(network, volume.transpose(1, 2, 0)).transpose(0, 3, 1, 2)
    along_x = along(network, volume.transpose(2, 0, 1)).transpose(0, 2, 3, 1)
    return (along(network, volume) + along_y + along_x) / 3


def assert_alike(found, probs):
    """Two of three probabilities were rounded to a step of 1 / 255, and the mean once more."""
    first, second = np.sort(probs, axis=0)[:-3:-1]
    clear = first - second > 0.01
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found["labels"][clear], probs.argmax(axis=0)[clear])
    for value, which in enumerate(MAPS, 1):
        assert np.abs(found[which] - 255 * probs[value]).max() < 0.5 + 2 / 6 + 0.01
    # Steep where a probability is near 0.
    assert np.abs(found[UNCERTAINTY] - 255 * entropy(probs)).max() < 4


def test_every_voxel_gets_the_mean_of_whole_planes(store, registry, network):
    found = segmented(store, registry)
    assert set(np.unique(found["labels"])) == {0, 1, 2}
    assert_alike(found, expected(network, store))


@pytest.mark.usefixtures("small_files")
def test_how_the_volume_is_cut_changes_nothing(store, registry, network):
    probs = expected(network, store)
    for patch_px in (16, 32):
        assert_alike(segmented(store, registry, f"by-{patch_px}", patch_px=patch_px), probs)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_a_volume_whose_axes_are_turned_round_gives_the_result_turned_round(
    tmp_path, store, registry, axes
):
    turned = make_store(tmp_path / "data", "turned", noise().transpose(axes))
    here = segmented(store, registry, flips=True)
    there = segmented(turned, registry, flips=True)
    for which in MAPS:
        assert np.abs(here[which].transpose(axes) - there[which]).max() <= 1
    assert (here["labels"].transpose(axes) == there["labels"]).mean() > 0.995


def test_a_symmetric_volume_gives_a_symmetric_result(tmp_path, network, registered):
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim == 4:
                # A network that does not tell rows from columns.
                weights.copy_((weights + weights.transpose(2, 3)) / 2)
    cube = noise((32, 32, 32)).astype(int)
    symmetric = sum(cube.transpose(axes) for axes in permutations(range(3))) / 6
    store = make_store(tmp_path, "symmetric", symmetric.astype(np.uint8))
    found = segmented(store, registered(tmp_path, network, VERSION))
    assert len(np.unique(found["labels"])) > 1
    assert found[MAPS[0]].std() > 10
    for axes in permutations(range(3)):
        for which in MAPS:
            assert np.abs(found[which] - found[which].transpose(axes)).max() <= 1
        assert (found["labels"] == found["labels"].transpose(axes)).mean() > 0.99


def files(store):
    root = store.path / "labels"
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def left_beside(store):
    return [path.suffix for path in (store.path.parent / ".segmenting").iterdir()]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_interrupted_pass_goes_on_and_gives_the_same_bytes(
    tmp_path, store, registry, monkeypatch, stage
):
    other = make_store(tmp_path / "other", "em", noise())
    segmented(other, registry)
    segmentation = Segmentation(store, registry, PLAN)
    last = segmentation.stages[stage][2]
    mark = UnfinishedLabels.mark

    def dying(self, unit):
        mark(self, unit)
        if unit == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(UnfinishedLabels, "mark", dying)
    with pytest.raises(KeyboardInterrupt):
        carried_out(segmentation)
    assert ".scratch" in left_beside(store)
    monkeypatch.setattr(UnfinishedLabels, "mark", mark)
    reports = []
    again = Segmentation(store, registry, PLAN)
    assert carried_out(again, progress=lambda *report: reports.append(report))
    assert files(store) == files(other)
    assert left_beside(store) == [".lock"]
    total = 3 * len(segmentation.stages[2])
    assert stage / 3 < reports[0][0] / total < (stage + 1) / 3
    assert reports == sorted(reports)
    assert reports[-1] == (total, total)


@pytest.mark.usefixtures("small_files")
def test_what_was_kept_and_is_gone_is_made_again(store, registry):
    segmentation = Segmentation(store, registry, PLAN)
    assert not carried_out(segmentation, pause=lambda: True)
    with segmentation.begin("cells") as labels:
        assert len(labels.missing()) == len(segmentation.units) - 1
    scratch = next((store.path.parent / ".segmenting").glob("*.scratch"))
    scratch.rename(scratch.with_suffix(".gone"))
    with segmentation.begin("cells") as labels:
        assert len(labels.missing()) == len(segmentation.units)


@pytest.mark.usefixtures("small_files")
def test_another_plan_leaves_nothing_behind(store, registry):
    assert not carried_out(Segmentation(store, registry, PLAN), pause=lambda: True)
    segmented(store, registry, three_axes=False)
    assert left_beside(store) == [".lock"]


@pytest.mark.parametrize(
    ("voxel_size", "said"),
    [(None, "is not known"), (VoxelSize(8, 8, 9), "is 8 x 8 x 9 nm")],
)
def test_voxels_that_are_no_cubes_are_refused(tmp_path, registry, voxel_size, said):
    store = make_store(tmp_path / "data", "flat", noise(), voxel_size)
    with pytest.raises(SettingsError, match=rf"'flat' {said}.*--voxel-size"):
        Segmentation(store, registry, PLAN)


def test_labels_of_three_axes_have_a_name_of_their_own():
    assert labels_name(PLAN) == f"project7-{VERSION}-3axes"
    assert labels_name(replace(PLAN, flips=True)) == f"project7-{VERSION}-3axes-flips"
    assert labels_name(replace(PLAN, three_axes=False)) == f"project7-{VERSION}"
