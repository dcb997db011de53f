"""Tiles go out to other programs and come back, through a real Label Studio."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biosegment.errors import SettingsError, TileExportError
from biosegment.exported_tiles import TileExport
from biosegment.geometry import VoxelSize
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import annotated_masks, shown_tiles, tile_of
from exporters import WRITERS
from exporters.tiles import TilePlan, export_tiles
from importers.annotations import LabelPlan, import_annotations
from importers.base import Choice
from importers.detect import open_volume
from importers.label_values import LabelValues
from importers.pool import PoolPlan
from importers.project import ProjectPlan, import_project

pytestmark = pytest.mark.stack

SHAPE = (5, 96, 130)
LABELS = ("mitochondria", "vesicle")


IMAGES = {
    "hdf5": Choice(dataset="image"),
    "ims": Choice(channel=0),
    "n5": Choice(dataset="image/s0"),
    "ome_zarr": Choice(dataset="0"),
}
"""Where the intensities are in files that hold the labels, too."""
FORMATS = [name for name in WRITERS if WRITERS[name].COMES_BACK]


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def make_project(stack, tmp_path_factory):
    """Return a function that makes a project of tiles of 32 x 48, and its number."""
    folder = tmp_path_factory.mktemp("raw")
    volume = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    tifffile.imwrite(folder / "raw.tif", volume, photometric="minisblack")

    def make(title, context=0, volume="exchanged"):
        plan = ProjectPlan(
            title=title,
            labels=LABELS,
            volume=volume,
            voxel_size=VoxelSize(40, 5, 4),
            pool=PoolPlan(tile_px=32),
            context=context,
            options={"retrain_every": 1000},
        )
        return import_project(folder / "raw.tif", plan, stack.settings, quiet).project_id

    return make


@pytest.fixture(scope="module")
def project(make_project):
    return make_project("Exchange")


def proposed(images):
    """Return masks of blobs, a hole among them, that differ from image to image."""
    masks = []
    for image in images:
        y, x = np.indices(image.shape)
        far = np.hypot(y - 10 - 8 * image[0, 0], x - 12)
        mask = np.where((far < 9) & (far > 3), 1, 0)
        mask[(x > 24) & (y > 20 * image[1, 1])] = 2
        masks.append(mask.astype(np.uint8))
    return masks


def expected(stack, tile):
    from biosegment.store import VolumeStore

    store = VolumeStore.open(stack.settings.data_root, tile.volume)
    return proposed([store.read_unit(tile.roi)[0]])[0]


def export(stack, project, folder, **changes):
    plan = replace(TilePlan(str(project), "tiff", 2), **changes)
    return export_tiles(plan, folder, lambda _: proposed, stack.settings, quiet)[0]


def bring_back(stack, project, folder, **changes):
    plan = replace(LabelPlan(str(project), LabelValues()), **changes)
    return import_annotations(folder, plan, stack.settings, quiet)


def annotated(stack, project, tasks):
    """Return the masks that the training reads of some tasks."""
    label_map = LabelMap.from_config(stack.client.project(project)["label_config"])
    masks = {}
    for task in stack.client.annotated_tasks(project):
        if task["id"] in tasks:
            masks.update(annotated_masks(task, label_map))
    return masks


@pytest.mark.parametrize("name", FORMATS)
def test_labels_come_back_pixel_for_pixel(stack, project, tmp_path, name):
    out = tmp_path / "out"
    exported = export(stack, project, out, format=name, context=1)
    assert TileExport.read(out) == exported
    done = bring_back(stack, project, out, unchanged=True)
    assert (done.labelled, done.skipped, done.unchanged) == (2, 0, 0)
    masks = annotated(stack, project, {each.task for each in exported.tiles})
    assert len(masks) == 2
    for tile, mask in masks.items():
        np.testing.assert_array_equal(mask, expected(stack, tile))


@pytest.mark.parametrize("name", FORMATS)
def test_intensities_lie_beside_the_labels(stack, project, tmp_path, name):
    (tile,) = export(stack, project, tmp_path / "out", format=name, count=1, context=1).tiles
    files = {path.name for path in (tmp_path / "out").iterdir()} - {"tiles.json"}
    together = WRITERS[name].TOGETHER
    (image,) = files if together else files - {tile.labels}
    with open_volume(tmp_path / "out" / image, IMAGES[name] if together else Choice()) as reader:
        np.testing.assert_array_equal(
            reader.read(type(tile.region).whole(tile.region.shape)),
            np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")[tile.region.slices],
        )
        assert reader.info.voxel_size.zyx == pytest.approx((40, 5, 4))


def test_formats_that_do_not_come_back_are_refused(stack, project, tmp_path):
    for name in set(WRITERS) - set(FORMATS):
        with pytest.raises(SettingsError, match=f"{name}, from which labels cannot be brought"):
            export(stack, project, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


def test_only_what_was_changed_becomes_an_annotation(stack, project, tmp_path):
    out = tmp_path / "out"
    first, _ = export(stack, project, out).tiles
    path = out / first.labels
    edited = tifffile.imread(path)
    edited[..., 3:9, 2:30] = 2
    tifffile.imwrite(path, edited, photometric="minisblack")
    done = bring_back(stack, project, out)
    assert (done.labelled, done.skipped, done.unchanged) == (1, 0, 1)
    ((_, mask),) = annotated(stack, project, {first.task}).items()
    np.testing.assert_array_equal(mask, edited.reshape(mask.shape))
    assert bring_back(stack, project, out).skipped == 1


def test_slices_that_a_task_shows_come_back_too(stack, make_project, tmp_path):
    project = make_project("Exchange with context", context=1)
    exported = export(stack, project, tmp_path / "out", format="nrrd")
    bring_back(stack, project, tmp_path / "out", unchanged=True)
    masks = annotated(stack, project, {each.task for each in exported.tiles})
    tasks = stack.client.tasks(project)
    shown = {
        tile
        for each in exported.tiles
        for task in tasks
        if task["id"] == each.task
        for tile in shown_tiles(task)
    }
    assert set(masks) == shown
    for tile, mask in masks.items():
        np.testing.assert_array_equal(mask, expected(stack, tile))


def test_one_unusable_file_stops_them_all(stack, project, tmp_path):
    out = tmp_path / "out"
    first, second = export(stack, project, out, format="nrrd").tiles
    for tile in (first, second):
        content = (out / tile.labels).read_bytes()
        (out / tile.labels).write_bytes(content + b"\0")
    (out / second.labels).write_bytes(content[:-20])
    with pytest.raises(ValueError, match=second.labels):
        bring_back(stack, project, out)
    assert annotated(stack, project, {first.task, second.task}) == {}


def test_an_export_belongs_to_its_project(stack, project, make_project, tmp_path):
    export(stack, project, tmp_path / "out")
    other = make_project("Exchange elsewhere")
    with pytest.raises(TileExportError, match=f"project number {project}"):
        bring_back(stack, other, tmp_path / "out", unchanged=True)
    with pytest.raises(SettingsError, match="holds exported tiles"):
        export(stack, project, tmp_path / "out")


def test_tiles_are_those_to_be_labelled_next(stack, project, tmp_path):
    exported = export(stack, project, tmp_path / "out", count=3)
    head = stack.client.head_of_queue(project, 3)
    assert [each.task for each in exported.tiles] == [task["id"] for task in head]
    assert [each.region.z for each in exported.tiles] == [tile_of(task).z for task in head]


def test_tasks_can_be_chosen_by_number(stack, project, tmp_path):
    head = stack.client.head_of_queue(project, 3)
    wanted = (head[2]["id"], head[0]["id"])
    exported = export(stack, project, tmp_path / "out", count=None, tasks=wanted)
    assert tuple(each.task for each in exported.tiles) == wanted
    labelled = head[1]["id"]
    stack.client.annotate(labelled, [], 1.0)
    for number, said in ((labelled, "annotated already"), (10**6, "no task")):
        with pytest.raises(SettingsError, match=f"{number}, which is {said}"):
            export(stack, project, tmp_path / "other", count=None, tasks=(number,))


def test_one_volume_of_several_is_exported(stack, make_project, tmp_path):
    project = make_project("Exchange of two")
    assert make_project("Exchange of two", volume="another") == project
    with pytest.raises(SettingsError, match="--volume is one of another, exchanged"):
        export(stack, project, tmp_path / "out")
    # More than the head of the queue holds of one volume.
    exported = export(stack, project, tmp_path / "out", volume="another", count=50)
    tasks = {task["id"]: task for task in stack.client.tasks(project)}
    assert {tasks[each.task]["data"]["volume"] for each in exported.tiles} == {"another"}
    assert len({each.task for each in exported.tiles}) == 50


def test_the_command_line_goes_out_and_back(stack, project, tmp_path):
    out = str(tmp_path / "out")
    done = stack.cli("export", str(project), "--tiles", "2", "--format", "tiff", "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"biosegment annotations {out} --project {project}" in done.stdout
    back = stack.cli("annotations", out, "--project", str(project))
    assert back.returncode == 0, back.stderr
    assert "2 exported tiles were left out" in back.stdout
    wrong = stack.cli("export", str(project), "--tiles", "2", "--format", "psd", "--out", out)
    assert wrong.returncode == 1
    assert "tiff" in wrong.stderr
