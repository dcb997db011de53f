"""A model goes from one project to another, which has its masks at once and trains on from it."""

import numpy as np
import pytest
import tifffile
import torch

from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import annotation_regions, tile_of
from ml_backend.jobs import JobQueue, connect
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

pytestmark = pytest.mark.stack

SHAPE = (8, 64, 64)
CLASSES = ("background", "cell")
DONOR = 90210
"""Number of a project that Label Studio no longer has; its models are still there."""


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volume") / "start.tif"
    values = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def registry(stack):
    return ModelRegistry(stack.data_root)


@pytest.fixture(scope="module")
def package(stack, registry, tmp_path_factory):
    torch.manual_seed(0)
    network = UNet(UNetSpec(2, widths=(4, 8, 8))).eval()
    card = ModelCard.of(
        TrainedModel(network, TrainingSpec(CLASSES, widths=(4, 8, 8)), 21, {}),
        strategy="random", annotations={"1": ""}, left_out={}, lead_time_s=0.0, parent=None,
    )  # fmt: skip
    version = registry.next_version(DONOR)
    registry.save(DONOR, version, network, card)
    registry.promote(DONOR, version)
    folder = tmp_path_factory.mktemp("package")
    done = stack.cli("export", str(DONOR), "--format", "bioimageio", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def project(stack, volume):
    """Make a project without any model; returns it."""

    def make(title, labels="cell"):
        options = ["--tile", "32", "--retrain-every", "3"]
        done = stack.cli("import", str(volume), "--project", title, "--labels", labels, *options)
        assert done.returncode == 0, done.stderr
        return stack.client.find_project(title)

    return make


def serving(stack, project):
    """Return the version whose queue Label Studio serves."""
    return stack.client.project(project["id"])["model_version"].partition(" ")[0]


def refused(done, said):
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_new_project_starts_from_a_package(stack, registry, package, project, wait_until):
    found = project("Start")
    nothing = stack.cli("models", "Start")
    assert (nothing.returncode, nothing.stdout) == (0, "The project has no trained model yet.\n")
    done = stack.cli("models", "Start", "--add", str(package))
    assert done.returncode == 0, done.stderr
    imported = registry.current(found["id"])
    assert imported in done.stdout
    wait_until(lambda: serving(stack, found) == imported, 120, "the package's masks serve")
    task = stack.client.next_task(found["id"])
    assert any(imported in each["model_version"] for each in task["predictions"])

    label_map = LabelMap.from_config(found["label_config"])
    for _ in range(3):
        task = stack.client.next_task(found["id"])
        tile = tile_of(task)
        mask = np.zeros((tile.height, tile.width), np.uint8)
        mask[4:20, 4:20] = 1
        stack.client.annotate(task["id"], annotation_regions([mask], label_map), 1.0)
    wait_until(lambda: registry.current(found["id"]) != imported, 120, "a version is trained")
    trained, card = registry.load(found["id"], registry.current(found["id"]))
    assert (card.parent, card.labels) == (imported, 3)
    assert tuple(trained.spec.widths) == (4, 8, 8)
    assert [record.live is not None for record in card.round] == [True] * 3
    listed = stack.cli("models", "Start")
    assert listed.returncode == 0, listed.stderr
    first, second = (line for line in listed.stdout.splitlines() if "-20" in line)
    assert "a package: 21 labels" in first
    assert "serves" not in first
    assert "serves" in second
    assert imported in second


def test_while_a_worker_is_at_the_project_nothing_is_added(stack, registry, package, project):
    found = project("Busy")
    with JobQueue(connect(stack.settings)).exclusive(found["id"]) as alone:
        assert alone
        done = stack.cli("models", "Busy", "--add", str(package))
    refused(done, "A worker is training or ranking 'Busy'; try again once it is done.")
    assert registry.cards(found["id"]) == []


def test_without_the_queue_the_package_serves_all_the_same(stack, registry, package, project):
    found = project("No queue")
    unreachable = {"REDIS_URL": f"unix://{package.with_name('no.sock')}"}
    done = stack.cli("models", "No queue", "--add", str(package), **unreachable)
    assert done.returncode == 0, done.stderr
    assert "the next annotation brings its masks" in done.stdout
    assert registry.current(found["id"]) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Others", "--add", "{package}"], "those of the project are background, wall"),
        (["Others", "--add", "{package}.not"], "No such file or directory"),
        (["Nobody's", "--add", "{package}"], "Nobody's"),
        (["Nobody's"], "Nobody's"),
    ],
)
def test_what_is_wrong_is_one_sentence(stack, registry, package, project, arguments, said):
    found = project("Others", labels="wall")
    refused(stack.cli("models", *(each.format(package=package) for each in arguments)), said)
    assert registry.cards(found["id"]) == []


def test_a_project_without_a_model_has_nothing_to_export(stack, project, tmp_path):
    project("Others", labels="wall")
    done = stack.cli("export", "Others", "--format", "onnx", "--out", str(tmp_path / "out"))
    refused(done, "The setting PROJECT names Others, which has no trained model yet.")
    assert not (tmp_path / "out").exists()
