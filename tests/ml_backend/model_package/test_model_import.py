"""Packages come back as the start of a project, unless something about them is wrong."""

import hashlib
import json
import os
import pickle
import resource
import zipfile
from dataclasses import replace

import psutil
import pytest
import safetensors.torch
import torch

from biosegment.errors import ModelPackageError
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_export import ModelPlan, export_model
from ml_backend.model_import import add_package
from ml_backend.model_package import CARD, WEIGHTS, PackageCard, read_package
from ml_backend.model_registry import ModelRegistry
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec
from tests.ml_backend.model_package.conftest import CLASSES, WIDTHS, member


@pytest.fixture
def target(tmp_path):
    return ModelRegistry(tmp_path / "target")


def test_a_package_comes_back_bit_by_bit(package, network, card, target):
    version = add_package(package, 8, CLASSES, "random", target)
    assert target.current(8) == version
    loaded, found = target.load(8, version)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not loaded.training
    assert found.class_names == list(CLASSES)
    assert (found.strategy, found.parent, found.round) == ("random", None, ())
    assert found.imported["labels"] == card.labels
    assert target.ranked_by(8, version) == "random"


def test_for_a_project_an_imported_network_has_seen_no_annotation(package, target):
    """So every one of the project is new to the next training, which starts from it."""
    version = add_package(package, 8, CLASSES, "random", target)
    found = target.card(8, version)
    assert (found.labels, dict(found.annotations), dict(found.left_out)) == (0, {}, {})


def test_a_package_becomes_the_newest_of_several_versions(package, target, network, card):
    older = target.next_version(8)
    target.save(8, older, network, card)
    target.promote(8, older)
    version = add_package(package, 8, CLASSES, "random", target)
    assert [each.version for each in target.cards(8)] == [older, version]
    assert target.current(8) == version


def test_the_next_training_makes_networks_of_the_same_widths(package, target):
    """Others would start from random weights."""
    add_package(package, 8, CLASSES, "random", target)
    spec = TrainingSpec(CLASSES)
    assert Recipe.read(target.recipe_path(8)) == replace(Recipe.of(spec), widths=WIDTHS)


def test_the_rest_of_a_projects_own_recipe_stays(package, target):
    own = Recipe(0.01, (8, 16), 0.5, 2)
    own.write(target.recipe_path(8))
    add_package(package, 8, CLASSES, "random", target)
    assert Recipe.read(target.recipe_path(8)) == replace(own, widths=WIDTHS)


def test_a_network_of_the_usual_widths_changes_no_recipe(card, target, tmp_path):
    network = UNet(UNetSpec(3))
    usual = replace(card, architecture_spec={"classes": 3, "widths": network.spec.widths})
    target.save(1, "0001-20261122T101530", network, usual)
    path = tmp_path / "usual.zip"
    about = PackageCard.of(target.card(1, "0001-20261122T101530"), None)
    changed(path, {CARD: about.to_json(), WEIGHTS: weights_of(network)})
    add_package(path, 8, CLASSES, "random", target)
    assert not target.recipe_path(8).exists()


def test_an_imported_version_goes_out_as_what_it_was(package, target, tmp_path):
    version = add_package(package, 8, CLASSES, "random", target)
    again = export_model(ModelPlan(8, version, "bioimageio"), tmp_path, target)
    first, second = (read_package(path) for path in (package, again))
    assert first[1] == second[1]
    images = torch.rand(1, 1, 16, 16)
    assert torch.equal(first[0](images), second[0](images))


@pytest.mark.parametrize(
    "classes",
    [
        CLASSES[:2],
        (*CLASSES, "more"),
        ("background", "synaptic vesicles", "mitochondria"),
        ("background", "mitochondria", "vesicles"),
    ],
)
def test_a_package_of_other_classes_is_refused(package, target, classes):
    with pytest.raises(ModelPackageError) as caught:
        add_package(package, 8, classes, "random", target)
    said = str(caught.value)
    assert "its classes are background, mitochondria, synaptic vesicles" in said
    assert f"those of the project are {', '.join(classes)}" in said
    assert target.projects() == []


def weights_of(network):
    return safetensors.torch.save(network.state_dict())


def changed(path, members):
    """Write a package of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def described(package, weights=None, **fields):
    """Return the members of a package with another card, and its own or other weights."""
    weights = member(package, WEIGHTS) if weights is None else weights
    content = json.loads(member(package, CARD))
    content |= {"weights_sha256": hashlib.sha256(weights).hexdigest()} | fields
    return {CARD: json.dumps(content), WEIGHTS: weights}


def spec(**fields):
    return {"classes": 3, "widths": list(WIDTHS), "dropout": 0.1} | fields


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architecture": "transformer"}, "only BioSegment's own U-Net can be trained on"),
        ({"format": 2}, "its format is 2"),
        ({"class_names": ["background", "a"]}, "no network is built by"),
        ({"class_names": ["a", "background", "b"]}, "list that begins with background"),
        ({"class_names": ["background", "a", "a"]}, "list that begins with background"),
        ({"class_names": "abc"}, "list that begins with background"),
        ({"architecture_spec": spec(widths=[4])}, "no network is built by"),
        ({"architecture_spec": spec(widths=[4, 10**9])}, "no network is built by"),
        ({"architecture_spec": spec(widths=[4, -8, 12])}, "no network is built by"),
        ({"architecture_spec": spec(dropout=2)}, "no network is built by"),
        ({"architecture_spec": spec(depth=3)}, "does not describe a network"),
        ({"architecture_spec": spec(widths=[4, 8])}, "not those of the network that it describes"),
        ({"training": None}, "how the network was trained"),
        ({"weights_sha256": "0" * 64}, "the checksum of its weights"),
    ],
)
def test_a_card_that_is_not_that_of_the_weights_is_told(package, tmp_path, fields, said):
    path = changed(tmp_path / "other.zip", described(package, **fields))
    with pytest.raises(ModelPackageError, match=f"{path} cannot be used as a model: .*{said}") as e:
        read_package(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\x00", b"[" * 100_000, b'{"format": 1}'])
def test_a_card_that_is_none_is_told(package, tmp_path, text):
    path = changed(tmp_path / "other.zip", {CARD: text, WEIGHTS: member(package, WEIGHTS)})
    with pytest.raises(ModelPackageError, match="cannot be used as a model"):
        read_package(path)


def test_weights_that_are_no_numbers_are_told(package, network, tmp_path):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state["head.bias"][1] = float("nan")
    members = described(package, safetensors.torch.save(state))
    with pytest.raises(ModelPackageError, match="some of its weights are not numbers"):
        read_package(changed(tmp_path / "other.zip", members))


def test_weights_are_not_unpickled(package, tmp_path):
    """Neither in place of safetensors, nor where other programs look for a state dict."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    trap = pickle.dumps(Trap())
    path = changed(tmp_path / "trap.zip", described(package, trap))
    with pytest.raises(ModelPackageError):
        read_package(path)
    source = f"import os; os.mkdir({str(tmp_path / 'executed')!r})"
    beside = described(package) | {"weights.pt": trap, "unet.py": source}
    read_package(changed(tmp_path / "beside.zip", beside))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_member_that_unpacks_to_more_than_it_may_is_not_unpacked(package, tmp_path, name):
    members = described(package) | {name: bytes(2**28)}
    path = changed(tmp_path / "bomb.zip", members)
    assert path.stat().st_size < 2**20
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**27, hard))
    try:
        with pytest.raises(ModelPackageError, match=f"its {name} has 268435456 bytes"):
            read_package(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_package_of_another_network_is_told(tmp_path):
    path = changed(tmp_path / "other.zip", {"rdf.yaml": "type: model", "weights.pt": b""})
    with pytest.raises(ModelPackageError, match="holds no network of BioSegment, and only"):
        read_package(path)


def test_what_is_no_package_is_told(package, tmp_path):
    damaged = bytearray(package.read_bytes())
    with zipfile.ZipFile(package) as archive:
        damaged[archive.getinfo(WEIGHTS).header_offset + 1000] ^= 1
    for name, content, said in (
        ("weights.pt", b"no zip", "it is no zip file, or damaged"),
        ("cut.zip", package.read_bytes()[:-500], "it is no zip file, or damaged"),
        ("damaged.zip", bytes(damaged), "it is no zip file, or damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelPackageError, match=f"{name} cannot be used as a model: {said}"):
            read_package(tmp_path / name)
    with pytest.raises(ModelPackageError, match="No such file"):
        read_package(tmp_path / "nothing.zip")
    with pytest.raises(ModelPackageError, match="Is a directory"):
        read_package(tmp_path)
    without = changed(tmp_path / "without.zip", {CARD: member(package, CARD)})
    with pytest.raises(ModelPackageError, match=f"There is no item named '{WEIGHTS}'"):
        read_package(without)
