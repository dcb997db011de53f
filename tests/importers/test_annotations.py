from dataclasses import replace

import numpy as np
import pytest
import roifile
import tifffile

from biosegment.errors import (
    LabelsMismatchError,
    LabelValuesError,
    ProjectNotFoundError,
    RegionError,
    SettingsError,
)
from biosegment.labels import UNKNOWN, LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import annotated_masks, shown_tiles, tile_of
from importers.annotations import LabelPlan, import_annotations
from importers.label_values import LabelValues
from importers.pool import PoolPlan
from importers.project import ProjectPlan, import_project

pytestmark = pytest.mark.stack

SHAPE = (4, 96, 130)
MAP = LabelValues.parse("3=cell,7=vesicle", unknown=200)


@pytest.fixture(scope="module")
def truth():
    """Values 3 and 7 in blocks, and a corner of every slice that nobody looked at."""
    rng = np.random.default_rng(0)
    values = np.kron(rng.choice([0, 0, 3, 7], (4, 12, 13)), np.ones((1, 8, 10), int))
    values[:, :30, :20] = 200
    return values.astype("uint8")


@pytest.fixture
def client(stack):
    with LabelStudioClient(stack.settings) as client:
        yield client


@pytest.fixture
def made(request, stack, tmp_path, truth):
    """A project of its own for each test; returns what brings the labels in."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name[-45:]).strip("-")
    volume = np.random.default_rng(1).integers(0, 256, SHAPE, "uint8")
    tifffile.imwrite(tmp_path / "raw.tif", volume, photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", truth, photometric="minisblack")
    plan = ProjectPlan(
        title=name,
        labels=["background", "cell", "vesicle"],
        volume=name,
        pool=PoolPlan(tile_px=32, draw="random", count=5),
        options={"retrain_every": 1000},
    )

    def make(**changes):
        imported = import_project(
            tmp_path / "raw.tif", replace(plan, **changes), stack.settings, lambda *_: None
        )

        def bring(values=MAP, path=tmp_path / "labels.tif", **changes):
            how = LabelPlan(name, values, **changes)
            return import_annotations(path, how, stack.settings, lambda *_: None)

        return imported, bring

    return make


def expected(truth, tile):
    values = truth[tile.roi.slices][0]
    classes = np.select([values == 3, values == 7, values == 200], [1, 2, UNKNOWN], 0)
    return classes.astype("uint8")


def annotated(client, project_id):
    """Return the masks of every annotated tile, as the training reads them."""
    label_map = LabelMap.from_config(client.project(project_id)["label_config"])
    masks = {}
    for task in client.annotated_tasks(project_id):
        masks.update(annotated_masks(task, label_map))
    return masks


@pytest.mark.parametrize("context", [0, 1])
def test_labels_become_annotations_pixel_for_pixel(made, client, truth, context):
    imported, bring = made(context=context)
    done = bring()
    masks = annotated(client, imported.project_id)
    tasks = client.annotated_tasks(imported.project_id)
    assert done.labelled == len(tasks) >= 5
    assert done.added == done.labelled - 5
    shown = {tile for task in tasks for tile in shown_tiles(task)}
    # A slice beside the one to label that is background alone goes without saying.
    assert {tile for tile in shown if expected(truth, tile).any()} <= set(masks) <= shown
    for tile, mask in masks.items():
        np.testing.assert_array_equal(mask, expected(truth, tile))
    again = bring()
    assert (again.labelled, again.added, again.skipped) == (0, 0, done.labelled)


def test_a_file_of_a_part_labels_the_tiles_that_it_covers(made, client, truth, tmp_path):
    imported, bring = made()
    at, part = (1, 20, 30), (slice(1, 4), slice(20, 90), slice(30, 110))
    tifffile.imwrite(tmp_path / "part.tif", truth[part], photometric="minisblack")
    done = bring(path=tmp_path / "part.tif", at=at)
    masks = annotated(client, imported.project_id)
    assert done.labelled == len(masks) >= done.added > 0
    for tile, mask in masks.items():
        assert tile.z >= 1
        assert 20 <= tile.y <= 90 - tile.height
        assert 30 <= tile.x <= 110 - tile.width
        np.testing.assert_array_equal(mask, expected(truth, tile))
    with pytest.raises(RegionError):
        bring(path=tmp_path / "part.tif", at=(2, 20, 30))


def test_predictions_open_prelabelled_and_spread_until_a_model_serves(made, client, truth):
    imported, bring = made(labels=["background", "cell", "vesicle"])
    values = LabelValues.parse("3=cell,7=vesicle,200=")
    done = bring(values, kind="predictions")
    assert annotated(client, imported.project_id) == {}
    tasks = client.head_of_queue(imported.project_id, 1000)
    assert done.labelled == len(tasks)
    assert client.project(imported.project_id)["model_version"] == "imported (labels.tif)"
    scores = [task["predictions_score"] for task in tasks]
    assert scores == sorted(scores)
    assert len(set(scores)) == min(20, len(tasks)) + (len(tasks) > 20)
    served = client.next_task(imported.project_id)
    (shown,) = [
        each for each in served["predictions"] if each["model_version"] == "imported (labels.tif)"
    ]
    label_map = LabelMap.from_config(client.project(imported.project_id)["label_config"])
    as_submitted = served | {"annotations": [{"id": 1, "result": shown["result"]}]}
    mask = annotated_masks(as_submitted, label_map)[tile_of(served)]
    wanted = expected(truth, tile_of(served))
    np.testing.assert_array_equal(mask, np.where(wanted == UNKNOWN, 0, wanted))
    again = bring(values, kind="predictions")
    assert (again.labelled, again.skipped) == (0, done.labelled)


def test_rois_of_imagej_label_the_slices_they_are_on(made, client, tmp_path):
    imported, bring = made(pool=PoolPlan(tile_px=32))
    square = np.array([[3, 5], [20, 5], [20, 9], [3, 9]])
    rois = [
        roifile.ImagejRoi.frompoints(square + 33, name="vesicle-1", z=2),
        roifile.ImagejRoi.frompoints(square, name="Cell-1", z=0),
    ]
    roifile.roiwrite(tmp_path / "set.zip", rois, name=["a", "b"])
    bring(LabelValues(), path=tmp_path / "set.zip")
    masks = annotated(client, imported.project_id)
    assert len(masks) == len(client.tasks(imported.project_id))
    volume = np.zeros(SHAPE, int)
    volume[2, 38:42, 36:53] = 2
    volume[0, 5:9, 3:20] = 1
    for tile, mask in masks.items():
        np.testing.assert_array_equal(mask, volume[tile.roi.slices][0])
    with pytest.raises(SettingsError, match="--at is not for ROIs"):
        bring(LabelValues(), path=tmp_path / "set.zip", at=(0, 4, 4))


def test_tiles_without_rois_can_stay_unknown(made, client, tmp_path):
    imported, bring = made(pool=PoolPlan(tile_px=32))
    roi = roifile.ImagejRoi.frompoints([[3, 5], [20, 5], [20, 9], [3, 9]], name="cell-1", z=1)
    roifile.roiwrite(tmp_path / "one.zip", [roi], name=["a"])
    assert bring(LabelValues(unknown=0), path=tmp_path / "one.zip").labelled == 1
    ((tile, mask),) = annotated(client, imported.project_id).items()
    assert (tile.z, tile.y, tile.x) == (1, 0, 0)
    assert (np.count_nonzero(mask == 1), np.count_nonzero(mask == UNKNOWN)) == (68, 1024 - 68)


def test_tiles_are_added_where_the_file_has_labels(made, client, truth):
    imported, bring = made()
    bring()
    covered = np.zeros(SHAPE, bool)
    for task in client.tasks(imported.project_id):
        covered[tile_of(task).roi.slices] = True
    assert covered[(truth == 3) | (truth == 7)].mean() > 0.8


def test_what_was_annotated_before_stays(made, client):
    imported, bring = made()
    task = client.tasks(imported.project_id)[0]
    client.annotate(task["id"], [], 1.0)
    assert bring().skipped == 1
    assert not annotated(client, imported.project_id)[tile_of(task)].any()


def test_nothing_is_made_of_labels_that_do_not_fit(made, client, tmp_path, truth):
    imported, bring = made()
    with pytest.raises(LabelValuesError, match="200"):
        bring(LabelValues.parse("3=cell,7=vesicle"))
    tifffile.imwrite(tmp_path / "other.tif", truth[:, :64], photometric="minisblack")
    with pytest.raises(LabelsMismatchError, match=r"4 x 64 x 130.*--at z,y,x"):
        bring(path=tmp_path / "other.tif")
    assert annotated(client, imported.project_id) == {}
    assert len(client.tasks(imported.project_id)) == 5


def test_a_project_that_is_not_there_is_told(stack, tmp_path, truth):
    tifffile.imwrite(tmp_path / "labels.tif", truth, photometric="minisblack")
    with pytest.raises(ProjectNotFoundError):
        import_annotations(
            tmp_path / "labels.tif", LabelPlan("gone", MAP), stack.settings, lambda *_: None
        )


def test_the_command_line_annotates(made, stack, tmp_path):
    imported, _ = made()
    done = stack.cli(
        "annotations", str(tmp_path / "labels.tif"), "--project", str(imported.project_id),
        "--map", "3=cell,7=vesicle", "--unknown", "200",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tasks annotated" in done.stdout
