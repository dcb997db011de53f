import json
import re
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import torch

from biosegment.errors import DiskFullError, ModelDamagedError, ModelNotFoundError
from ml_backend.metrics import Metrics
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_files import CARD, WEIGHTS
from ml_backend.model_registry import ModelRegistry
from ml_backend.rounds import AnnotationRecord, Overlap
from ml_backend.training import TrainedModel, TrainingSpec

CLASSES = ("background", "mitochondria")
METRICS: Metrics = {"iou": {"mitochondria": 0.75}, "mean_iou": 0.75, "tiles": 3}
ROUND = AnnotationRecord("12", 3, 41.5, "entropy", {"mitochondria": Overlap(3, 2, 1)}, None)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return UNet(UNetSpec(2, widths=(4, 8, 8))).eval()


@pytest.fixture
def card(network):
    spec = TrainingSpec(CLASSES, widths=(4, 8, 8))
    return ModelCard.of(
        TrainedModel(network, spec, 10, METRICS),
        strategy="entropy",
        annotations={"12": "2026-11-22T10:00:00Z"},
        left_out={},
        lead_time_s=41.5,
        parent=None,
        round=[ROUND],
    )


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(tmp_path)


def add(registry, network, card, project_id=1):
    version = registry.next_version(project_id)
    registry.save(project_id, version, network, card)
    return version


def test_versions_count_up_and_carry_the_time(registry, network, card):
    start = datetime.now(UTC).replace(microsecond=0)
    versions = [add(registry, network, card) for _ in range(3)]
    assert [version.partition("-")[0] for version in versions] == ["0001", "0002", "0003"]
    stamp = datetime.strptime(versions[0][5:], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert start <= stamp <= datetime.now(UTC)
    assert [each.version for each in registry.cards(1)] == versions


def test_order_is_by_number_even_past_9999(registry, network, card):
    for version in ("10000-20261122T101531", "9999-20261122T101530", "0002-20271122T101530"):
        registry.save(1, version, network, card)
    assert [each.version[:4] for each in registry.cards(1)] == ["0002", "9999", "1000"]
    assert registry.next_version(1).startswith("10001-")


def test_what_is_saved_is_loaded(registry, network, card):
    version = add(registry, network, card)
    loaded, read = registry.load(1, version)
    assert not loaded.training
    assert loaded.spec.classes == 2
    images = torch.rand(1, 1, 8, 8)
    assert torch.equal(loaded(images), network(images))
    assert read == registry.card(1, version)
    assert read.version == version
    assert read.class_names == list(CLASSES)
    assert read.round == (ROUND,)
    assert read.labels == 10
    assert read.annotations == {"12": "2026-11-22T10:00:00Z"}
    assert read.training["batch_size"] == 16
    assert "torch" in read.software
    assert datetime.fromisoformat(read.created).tzinfo is not None


def test_a_card_of_an_earlier_release_is_read(registry, network, card, tmp_path):
    """It has the quality on held-out tiles, and no round."""
    version = add(registry, network, card)
    path = tmp_path / "models" / "1" / version / CARD
    content = json.loads(path.read_text())
    del content["round"]
    path.write_text(json.dumps(content | {"metrics": METRICS}))
    assert registry.load(1, version)[1].round == ()


@pytest.mark.parametrize("damage", [[{}], [3], 3, [{"annotation": "1"}], {"a": "b"}])
def test_a_damaged_round_is_told(registry, network, card, tmp_path, damage):
    version = add(registry, network, card)
    path = tmp_path / "models" / "1" / version / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"round": damage}))
    with pytest.raises(ModelDamagedError):
        registry.card(1, version)


def test_a_version_is_forever(registry, network, card):
    version = add(registry, network, card)
    with pytest.raises(FileExistsError):
        registry.save(1, version, network, card)


def test_projects_are_separate(registry, network, card):
    version = add(registry, network, card, project_id=1)
    registry.promote(1, version)
    assert registry.current(2) is None
    assert registry.cards(2) == []
    assert registry.next_version(2).startswith("0001-")


def test_nothing_serves_before_promotion(registry, network, card):
    version = add(registry, network, card)
    assert registry.current(1) is None
    registry.promote(1, version)
    assert registry.current(1) == version
    older, newer = version, add(registry, network, card)
    assert registry.current(1) == older
    registry.promote(1, newer)
    assert ModelRegistry(registry._root.parent).current(1) == newer


def test_newest_complete_version_serves_when_the_promoted_is_gone(registry, network, card):
    first, second, third = (add(registry, network, card) for _ in range(3))
    registry.promote(1, third)
    (registry._root / "1" / third / WEIGHTS).unlink()
    assert registry.current(1) == second
    (registry._root / "1" / second / CARD).unlink()
    assert registry.current(1) == first
    (registry._root / "1" / first / CARD).unlink()
    assert registry.current(1) is None


def test_the_card_tells_the_strategy_until_another_one_is_noted(registry, network, card):
    first, second = (add(registry, network, card) for _ in range(2))
    assert registry.ranked_by(1, first) == "entropy"
    registry.set_ranked_by(1, first, "random")
    assert registry.ranked_by(1, first) == "random"
    assert registry.ranked_by(1, second) == "entropy"
    registry.set_ranked_by(1, second, "kmeans")
    assert registry.ranked_by(1, second) == "kmeans"
    for method in (registry.ranked_by, lambda *of: registry.set_ranked_by(*of, "random")):
        with pytest.raises(ModelNotFoundError):
            method(1, "0009-20261122T101530")


def test_only_whole_versions_are_promoted(registry, network, card):
    with pytest.raises(ModelNotFoundError, match="0001-20261122T101530"):
        registry.promote(1, "0001-20261122T101530")


@pytest.mark.parametrize("project_id", ["1", "../1", -1, True, 1.0, None])
def test_projects_are_numbers(registry, project_id):
    with pytest.raises(ValueError, match="project is a number"):
        registry.current(project_id)


@pytest.mark.parametrize("version", ["", "..", "../1/0001-20261122T101530", "current", "0001"])
def test_versions_have_one_form(registry, version):
    for method in (registry.card, registry.load, registry.promote):
        with pytest.raises(ModelNotFoundError):
            method(1, version)


def test_changed_weights_are_refused(registry, network, card):
    version = add(registry, network, card)
    path = registry._root / "1" / version / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelDamagedError, match="checksum"):
        registry.load(1, version)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "\x00"])
def test_damaged_cards_are_named(registry, network, card, text):
    version = add(registry, network, card)
    (registry._root / "1" / version / CARD).write_text(text)
    with pytest.raises(ModelDamagedError, match=re.escape(CARD)):
        registry.load(1, version)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "transformer"},
        {"architecture_spec": {"classes": 2, "depth": 7}},
        {"architecture_spec": {"classes": 3, "widths": [4, 8, 8]}},
    ],
)
def test_weights_must_fit_the_card(registry, network, card, change):
    version = add(registry, network, card)
    path = registry._root / "1" / version / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelDamagedError):
        registry.load(1, version)


def test_cards_of_later_releases_are_read(registry, network, card):
    version = add(registry, network, card)
    path = registry._root / "1" / version / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mood": "sunny"}))
    assert registry.card(1, version).version == version


def test_full_disk_leaves_the_old_version_serving(registry, network, card):
    version = add(registry, network, card)
    registry.promote(1, version)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskFullError, match="free some space"):
            add(registry, network, card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert registry.current(1) == version
    assert sorted(path.name for path in (registry._root / "1").iterdir()) == [version, "current"]
    assert add(registry, network, card).startswith("0002-")


KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
from ml_backend import model_registry
from ml_backend.metrics import Metrics
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.training import TrainedModel, TrainingSpec

def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)

model_registry._sync = die
network = UNet(UNetSpec(2, widths=(4, 8)))
model = TrainedModel(network, TrainingSpec(("background", "a")), 1, {"iou": {}})
facts = {"annotations": {}, "left_out": {}, "lead_time_s": 0, "parent": None}
card = ModelCard.of(model, strategy="random", **facts)
registry = model_registry.ModelRegistry(Path(sys.argv[1]))
registry.save(1, registry.next_version(1), network, card)
"""


def test_killed_while_saving(registry, network, card, tmp_path):
    version = add(registry, network, card)
    registry.promote(1, version)
    child = subprocess.run([sys.executable, "-c", KILLED_WHILE_SAVING, str(tmp_path)], check=False)
    assert child.returncode == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "models" / "1").iterdir()} - {version, "current"}
    assert len(left) == 1
    assert registry.current(1) == version
    assert [each.version for each in registry.cards(1)] == [version]
    again = add(registry, network, card)
    assert again.startswith("0002-")
    assert {path.name for path in (tmp_path / "models" / "1").iterdir()} == {
        version,
        again,
        "current",
    }
