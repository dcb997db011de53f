"""The Model Zoo's own test runs an exported model in each of its forms."""

import json
from pathlib import Path

import pytest
import torch

from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_export import ModelPlan, export_model
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

CLASSES = ("background", "mitochondria", "vesicles")
WIDTHS = (4, 8, 12)
PROJECT = 3
SCRIPT = Path(__file__).parent / "scripts" / "with_bioimageio.py"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    torch.manual_seed(0)
    network = UNet(UNetSpec(len(CLASSES), widths=WIDTHS)).train()
    # Lets its normalisation see images.
    for _ in range(10):
        network(torch.rand(4, 1, 32, 32))
    card = ModelCard.of(
        TrainedModel(network.eval(), TrainingSpec(CLASSES, widths=WIDTHS), 12, {}),
        strategy="entropy",
        annotations={},
        left_out={},
        lead_time_s=60.0,
        parent=None,
    )
    registry = ModelRegistry(tmp_path_factory.mktemp("models"))
    version = registry.next_version(PROJECT)
    registry.save(PROJECT, version, network, card)
    plan = ModelPlan(PROJECT, version, "bioimageio", authors=("A. Author",))
    return export_model(plan, tmp_path_factory.mktemp("out"), registry)


def test_bioimageio_reproduces_what_the_model_computes(package, readers, tmp_path):
    readers.require("bioimageio")
    answer = tmp_path / "answer.json"
    said = readers.run([SCRIPT, package, answer])
    assert answer.exists(), said
    told = json.loads(answer.read_text())
    assert (told["status"], told["errors"]) == ("passed", []), said
    assert told["weights"] == ["onnx", "pytorch_state_dict", "torchscript"]
    reproduced = [name for name in told["passed"] if name.startswith("Reproduce test outputs")]
    assert len(reproduced) == len(told["weights"])
    # It also tries sizes that were not told.
    assert any(" inference for " in name for name in told["passed"])
    assert told["axes"] == ["batch", "channel", "y", "x"]
    assert told["channels"] == list(CLASSES)
