"""A network, and the files of every format that its version leaves as."""

import zipfile
from dataclasses import replace

import pytest
import torch

from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_export import FORMATS, ModelPlan, export_model
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

CLASSES = ("background", "mitochondria", "synaptic vesicles")
WIDTHS = (4, 8, 12)
PROJECT = 3
ANNOTATION = "5829641"


@pytest.fixture(scope="module")
def network():
    """A network whose normalisation has seen images, and whose weights are of all sizes."""
    torch.manual_seed(0)
    network = UNet(UNetSpec(3, widths=WIDTHS)).train()
    for _ in range(20):
        network(torch.rand(4, 1, 32, 32))
    network.head.weight.data *= 4
    return network.eval()


@pytest.fixture(scope="module")
def card(network):
    return ModelCard.of(
        TrainedModel(network, TrainingSpec(CLASSES, widths=WIDTHS, learning_rate=0.003), 12, {}),
        strategy="entropy",
        annotations={ANNOTATION: "2026-11-22T10:00:00Z"},
        left_out={},
        lead_time_s=77.25,
        parent=None,
    )


@pytest.fixture(scope="module")
def source(network, card, tmp_path_factory):
    """A registry with one version, and that version."""
    registry = ModelRegistry(tmp_path_factory.mktemp("source"))
    version = registry.next_version(PROJECT)
    registry.save(PROJECT, version, network, card)
    registry.promote(PROJECT, version)
    return registry, version


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """Every format of the version: its name -> the file."""
    registry, version = source
    folder = tmp_path_factory.mktemp("out")
    plan = ModelPlan(PROJECT, version, "", authors=("A. Author", "B. Author"))
    files = {
        name: export_model(replace(plan, format=name), folder / name, registry) for name in FORMATS
    }
    for name, path in files.items():
        assert [each.name for each in path.parent.iterdir()] == [path.name], name
    return files


@pytest.fixture(scope="module")
def package(exported):
    return exported["bioimageio"]


def member(package, name):
    """Return the bytes of a file in a package."""
    with zipfile.ZipFile(package) as archive:
        return archive.read(name)
