"""From a stack to tables and files of other programs, on real data: what a lab does."""

import csv

import numpy as np
import pytest

from biosegment.geometry import Roi
from biosegment.store import VolumeStore
from exporters import WRITERS
from importers.detect import open_volume
from importers.tiff import TiffReader
from ml_backend.model_registry import ModelRegistry

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TITLE = "From stack to tables"
NAME = "cord"
POOL = 24


def done(stack, *arguments):
    """Run a command that has to succeed; return what it printed."""
    finished = stack.cli(*arguments)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def jaccard(found, truth):
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


def test_from_a_stack_to_tables_and_files(stack, sample_stack, wait_until, tmp_path):
    with TiffReader(sample_stack.labels) as reader:
        truth = reader.read(Roi.whole(reader.info.shape))[:, ::2, ::2] > 0
    done(
        *(stack, "import", str(sample_stack.raw), "--project", TITLE, "--name", NAME),
        *("--labels", "mitochondria", "--pool", str(POOL), "--tile", "128"),
        # Half as fine: a little training then sees four times as much tissue.
        *("--preprocess", "bin=1x2x2", "--voxel-size", "47.5,4.6,4.6nm"),
        *("--retrain-every", "999"),
    )
    project = stack.client.find_project(TITLE)
    stack.annotate(project, truth.astype(np.uint8), POOL)
    done(stack, "train", TITLE)
    registry = ModelRegistry(stack.data_root)
    wait_until(lambda: registry.current(project["id"]), 400, "the model is trained")

    done(stack, "segment", NAME, "--model", TITLE, "--name", "mito", "--uncertainty")
    store = VolumeStore.open(stack.data_root, NAME)
    found = store.read_labels("mito", Roi.whole(store.shape)) > 0
    assert jaccard(found, truth) > 0.4

    done(stack, "objects", NAME, "--min-voxels", "200", "--fill-holes", "500")
    done(stack, "measure", NAME, "--out", str(tmp_path / "tables"))
    with (tmp_path / "tables" / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    objects = store.read_labels("mito-objects", Roi.whole(store.shape))
    assert len(rows) == objects.max() > 5
    voxels = [int(row["voxels"]) for row in rows]
    np.testing.assert_array_equal(voxels, np.bincount(objects.ravel())[1:])
    assert min(voxels) >= 200
    volume_um3 = 0.0475 * 0.0092**2 * np.array(voxels)
    np.testing.assert_allclose([float(row["volume_um3"]) for row in rows], volume_um3)

    for name in WRITERS:
        out = tmp_path / name
        said = done(
            *(stack, "export", NAME, "--labels", "mito", "--format", name, "--out", str(out)),
            *("--region", "0:4,:,:"),
        )
        for path in out.iterdir():
            assert path.name in said
    labels = tmp_path / "nrrd" / f"{NAME}_z0-4_y0-{truth.shape[1]}_x0-{truth.shape[2]}_labels"
    with open_volume(labels.with_name(f"{labels.name}.seg.nrrd")) as reader:
        np.testing.assert_array_equal(reader.read(Roi.whole(reader.info.shape)) > 0, found[:4])
