"""Whole volumes are segmented in the foreground, on a worker, and from the status page."""

import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
import tifffile
import torch

from biosegment.errors import LabelsNotFoundError
from biosegment.geometry import Roi
from biosegment.store import VolumeStore, volume_path
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

pytestmark = pytest.mark.stack

TITLE = "Whole volume"
SHAPE = (40, 256, 320)
CLASSES = ("background", "cell")


@pytest.fixture(scope="module")
def project(stack, tmp_path_factory):
    """A project whose model nobody trained: what it says does not matter here."""
    path = tmp_path_factory.mktemp("volume") / "cells.tif"
    volume = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    tifffile.imwrite(path, volume, photometric="minisblack")
    arguments = [str(path), "--project", TITLE, "--labels", "cell", "--retrain-every", "999"]
    done = stack.cli("import", *arguments, "--voxel-size", "8,8,8nm")
    assert done.returncode == 0, done.stderr
    return stack.client.find_project(TITLE)


@pytest.fixture(scope="module")
def version(stack, project):
    torch.manual_seed(0)
    spec = TrainingSpec(CLASSES, widths=(4, 8, 8))
    network = UNet(UNetSpec(2, widths=(4, 8, 8))).eval()
    card = ModelCard.of(
        TrainedModel(network, spec, 1, {}),
        strategy="random", annotations={}, left_out={}, lead_time_s=0.0, parent=None,
    )  # fmt: skip
    registry = ModelRegistry(stack.data_root)
    version = registry.next_version(project["id"])
    registry.save(project["id"], version, network, card)
    registry.promote(project["id"], version)
    return version


@pytest.fixture(scope="module")
def flat(stack):
    """A volume that does not tell its voxel size."""
    store = VolumeStore.create(volume_path(stack.data_root, "flat"), (2, 64, 64), np.uint8)
    store.finish((0.0, 255.0), {})


def labels(stack, name):
    return VolumeStore.open(stack.data_root, "cells").read_labels(name, Roi.whole(SHAPE))


def one_sentence(said):
    return said.startswith("Error: ") and said.count("\n") == 1


def test_in_the_foreground_by_workers_and_in_the_queue_the_result_is_the_same(stack, version):
    here = stack.cli("segment", "cells", "--model", TITLE, "--name", "here", "--uncertainty")
    assert here.returncode == 0, here.stderr
    # In one line, however long it is: it is there to be copied.
    assert str(volume_path(stack.data_root, "cells") / "labels" / "here") in here.stdout
    assert "uncertainty" in here.stdout
    there = stack.cli(
        "segment", "cells", "--model", f"{TITLE}@{version}", "--name", "there", "--worker"
    )
    assert there.returncode == 0, there.stderr
    both = stack.cli(
        "segment", "cells", "--model", f"{TITLE}@1", "--name", "both", "--workers", "2"
    )
    assert both.returncode == 0, both.stderr
    for name in ("there", "both"):
        np.testing.assert_array_equal(labels(stack, "here"), labels(stack, name))


def test_the_labels_are_written_for_another_program_as_well(stack, version, tmp_path):
    name = ["segment", "cells", "--model", TITLE, "--name", "out", "--out", str(tmp_path)]
    done = stack.cli(*name, "--format", "tiff")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "cells_labels.tif"), labels(stack, "out")
    )
    again = stack.cli(*name, "--format", "tiff")
    assert "cells_labels.tif already, which --overwrite replaces" in again.stderr
    nothing = stack.cli(*name, "--format", "docx")
    assert (nothing.returncode, one_sentence(nothing.stderr)) == (1, True)


def test_a_folder_that_cannot_be_written_into_is_told_before_the_work(stack, version):
    inside = stack.data_root / "volumes" / "results"
    arguments = ["segment", "cells", "--model", TITLE, "--name", "unwanted", "--out", str(inside)]
    done = stack.cli(*arguments)
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)
    assert "where the volumes of the data folder are" in done.stderr
    with pytest.raises(LabelsNotFoundError):
        labels(stack, "unwanted")


def test_what_is_wrong_is_one_sentence(stack, version, project, flat):
    stack.client.create_project("Data@2019", project["label_config"])
    for arguments, said in (
        (["nowhere", "--model", TITLE], "no volume 'nowhere'"),
        (["cells", "--model", "No such project"], "no project 'No such project'"),
        (["cells", "--model", f"{TITLE}@12"], "has no model version '12'"),
        (["cells", "--model", TITLE, "--name", "../a"], "'../a'"),
        (["flat", "--model", TITLE, "--three-axes"], "the voxel size of 'flat' is not known"),
        (["flat", "--model", "Data@2019"], "names Data@2019, which has no trained model yet"),
        (["flat", "--model", TITLE, "--format", "tiff"], "--format goes with --out"),
    ):
        done = stack.cli("segment", *arguments)
        assert (done.returncode, one_sentence(done.stderr)) == (1, True), done.stderr
        assert said in done.stderr
    name = ["--model", TITLE, "--name", "twice"]
    assert stack.cli("segment", "cells", *name).returncode == 0
    again = stack.cli("segment", "cells", *name)
    assert (again.returncode, one_sentence(again.stderr)) == (1, True)
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize("how", ["flips", "three-axes"])
def test_a_killed_command_goes_on(stack, version, wait_until, how):
    whole, killed = f"whole-{how}", f"killed-{how}"
    expected = stack.cli("segment", "cells", "--model", TITLE, "--name", whole, f"--{how}")
    assert expected.returncode == 0, expected.stderr
    command = [sys.executable, "-c", "from biosegment.cli import main; main()", "segment", "cells"]
    command += ["--model", TITLE, "--name", killed, f"--{how}"]
    process = subprocess.Popen(command, env=stack.environment, stdout=subprocess.DEVNULL)
    done = stack.data_root / "volumes" / ".segmenting" / f"cells.{killed}.done"
    wait_until(lambda: done.exists() and sum(done.read_bytes()) > 2, 60, "a part is done")
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = stack.cli("segment", "cells", "--model", TITLE, "--name", killed, f"--{how}")
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(labels(stack, whole), labels(stack, killed))


def test_the_status_page_starts_it_and_shows_how_far_it_is(
    stack, project, version, flat, wait_until
):
    settings = stack.settings
    address = f"{settings.backend_url}/projects/{project['id']}/segment"
    with httpx.Client(auth=(settings.basic_auth_user, settings.basic_auth_pass)) as web:
        assert "<option>cells</option>" in web.get(address).text
        unknown = web.post(address, data={"volume": "../../etc"})
        assert (unknown.status_code, "no volume" in unknown.text) == (422, True)
        options = {"volume": "cells", "three_axes": "on", "uncertainty": "on"}
        flat = web.post(address, data={**options, "volume": "flat"})
        assert (flat.status_code, "&#39;flat&#39; is not known" in flat.text) == (422, True)
        started = web.post(address, data=options)
        assert started.status_code == 303
        name = f"project{project['id']}-{version}-3axes"
        wait_until(
            lambda: f"cells: {name} is done" in web.get(settings.backend_url).text, 90, "done"
        )
        again = web.post(address, data=options)
        assert (again.status_code, "already" in again.text) == (422, True)
    assert labels(stack, name).shape == SHAPE
    assert f"{name} is done" in stack.cli("status").stdout


def test_without_credentials_nothing_is_started(stack, project, version):
    address = f"{stack.settings.backend_url}/projects/{project['id']}/segment"
    assert httpx.post(address, data={"volume": "cells"}).status_code == 401
