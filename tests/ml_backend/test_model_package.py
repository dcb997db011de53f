"""Trained versions leave as files for other programs, and come back as the start of a project."""

import hashlib
import io
import json
import os
import pickle
import re
import resource
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import safetensors.torch
import torch
import yaml

from biosegment.errors import DiskFullError, ModelPackageError, SettingsError
from ml_backend.live_quality import live_qualities
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_export import FORMATS, ModelPlan, export_model
from ml_backend.model_import import add_package
from ml_backend.model_package import CARD, WEIGHTS, PackageCard, read_package
from ml_backend.model_registry import ModelRegistry
from ml_backend.model_zoo import channel_names
from ml_backend.model_zoo_page import model_name
from ml_backend.predictor import Predictor
from ml_backend.recipe import Recipe
from ml_backend.training import TrainedModel, TrainingSpec

CLASSES = ("background", "mitochondria", "synaptic vesicles")
WIDTHS = (4, 8, 12)
STRIDE = 4
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


@pytest.fixture
def target(tmp_path):
    return ModelRegistry(tmp_path / "target")


@pytest.fixture
def predicted(network, monkeypatch):
    """Return the probabilities that BioSegment computes in 32-bit floats: (B, C, H, W)."""
    monkeypatch.setattr("ml_backend.predictor.has_bfloat16", lambda _: False)
    predictor = Predictor(network, torch.device("cpu"))
    return lambda images: np.stack(list(predictor.probabilities(images[:, 0])))


def images(batch, height, width, seed=0):
    return np.random.default_rng(seed).random((batch, 1, height, width), np.float32)


def member(package, name):
    with zipfile.ZipFile(package) as archive:
        return archive.read(name)


def scripted(path, extra=None):
    with warnings.catch_warnings():
        # Programs that run TorchScript go on to; torch itself has announced its end.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path), _extra_files=extra)


def description(package):
    return yaml.safe_load(member(package, "rdf.yaml"))


def array(package, name):
    return np.load(io.BytesIO(member(package, name)))


# Out


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 16, 40), (3, 60, 28)])
def test_torchscript_computes_what_biosegment_does(exported, predicted, shape):
    extra = {CARD: ""}
    model = scripted(exported["torchscript"], extra)
    found = model(torch.from_numpy(images(*shape))).detach().numpy()
    np.testing.assert_allclose(found, predicted(images(*shape)), atol=1e-4)
    assert json.loads(extra[CARD])["class_names"] == list(CLASSES)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 16, 40), (3, 60, 28)])
def test_onnx_computes_what_biosegment_does(exported, predicted, shape):
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"image": images(*shape)})
    np.testing.assert_allclose(found, predicted(images(*shape)), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map[CARD]
    assert json.loads(told)["class_names"] == list(CLASSES)


def test_onnx_is_one_valid_file(exported):
    onnx.checker.check_model(onnx.load(exported["onnx"]), full_check=True)


FROM_SOURCE = """
import importlib.util, sys
import numpy as np, torch
sys.modules |= dict.fromkeys(["biosegment", "ml_backend", "monai", "pytorch_lightning"])
spec = importlib.util.spec_from_file_location("unet", "unet.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.probability_unet(classes=3, widths=[4, 8, 12], dropout=0.1)
network.load_state_dict(torch.load("weights.pt", weights_only=True))
with torch.no_grad():
    found = network.eval()(torch.from_numpy(np.load("image.npy"))).numpy()
np.testing.assert_allclose(found, np.load("probabilities.npy"), atol=1e-4)
"""


def test_the_source_in_a_package_needs_torch_alone(package, tmp_path):
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", FROM_SOURCE],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_test_output_of_a_package_is_what_biosegment_computes(package, predicted):
    image, probabilities = array(package, "image.npy"), array(package, "probabilities.npy")
    np.testing.assert_allclose(probabilities, predicted(image), atol=1e-4)
    assert image.shape[2] != image.shape[3]
    assert probabilities.std() > 0.05


def test_the_description_is_complete(package):
    """It is valid, too, or bioimageio.spec would not have packed it."""
    found = description(package)
    assert [author["name"] for author in found["authors"]] == ["A. Author", "B. Author"]
    assert found["license"] == "CC-BY-4.0"
    assert set(found["weights"]) == {"onnx", "pytorch_state_dict", "torchscript"}
    channels = found["outputs"][0]["axes"][1]["channel_names"]
    assert channels == ["background", "mitochondria", "synaptic_vesicles"]
    text = f"{found['description']}\n{member(package, 'README.md').decode()}"
    assert all(f"{number}. {name}\n" in text for number, name in enumerate(CLASSES))
    assert "12 labelled tiles" in text
    assert "learning_rate 0.003" in text
    assert "np.clip((slice - black) / (white - black), 0, 1)" in text
    assert "It was not measured" in text


def test_the_sizes_in_a_description_are_true(package, exported):
    """The network takes min + n * step, and tiles that overlap by the halo leave no seam."""
    found = description(package)
    y, x = (axis["size"] for axis in found["inputs"][0]["axes"][2:])
    halo_y, halo_x = (axis["halo"] for axis in found["outputs"][0]["axes"][2:])
    assert (y["step"], x["step"]) == (STRIDE, STRIDE)
    assert y["min"] == x["min"] == 2 * halo_y + STRIDE
    model = scripted(exported["torchscript"])
    smallest = y["min"]
    whole = torch.from_numpy(images(1, smallest + 8 * STRIDE, smallest + 12 * STRIDE))
    with torch.no_grad():
        expected = model(whole)
        for top, left in ((0, 0), (4 * STRIDE, 8 * STRIDE)):
            bottom, right = top + smallest + STRIDE, left + smallest
            found = model(whole[..., top:bottom, left:right])
            inner = (..., slice(halo_y, -halo_y), slice(halo_x, -halo_x))
            beyond = expected[..., top:bottom, left:right][inner]
            torch.testing.assert_close(found[inner], beyond, atol=1e-5, rtol=0)
            assert (found - expected[..., top:bottom, left:right]).abs().max() > 1e-3


def test_a_measured_quality_is_told(serve_rounds, registry, tmp_path):
    first, _, third = serve_rounds(1)
    quality = live_qualities(registry.cards(1))[0]
    assert quality.version == first
    about = PackageCard.of(registry.card(1, first), quality)
    assert about.iou == {"mitochondria": pytest.approx(quality.iou["mitochondria"])}
    path = export_model(ModelPlan(1, first, "bioimageio"), tmp_path, registry)
    page = member(path, "README.md").decode()
    assert "On 2 tiles that were labelled after it was trained" in page
    assert f"mitochondria {quality.iou['mitochondria']:.3f}" in page
    assert PackageCard.of(registry.card(1, third), None).iou == {}


def test_a_package_tells_nothing_of_single_annotations(package):
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert ANNOTATION.encode() not in content, name
            assert b"77.25" not in content, name


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (["background", "Golgi (cis)", "小泡"], ["background", "Golgi__cis_", "小泡"]),
        (["background", "a b", "a_b", "a-b"], ["background", "a_b", "a_b_2", "a_b_3"]),
        (["background", "2", "class"], ["background", "_2", "_class"]),
    ],
)
def test_channels_are_named_by_identifiers(names, channels):
    assert channel_names(names) == channels


@pytest.mark.parametrize("names", [["小泡"], ["x" * 200], ["a/b: c", "Übergänge"]])
def test_a_name_has_plain_characters_and_a_limit(names):
    assert re.fullmatch(r"BioSegment U-Net[A-Za-z0-9_+() -]{0,48}", model_name(["b", *names]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": "mine"}, "--license is an SPDX identifier"),
        ({"authors": ("A/B",)}, "--author is a name without a slash, not A/B"),
    ],
)
def test_a_package_without_licence_or_author_is_not_written(source, tmp_path, change, said):
    registry, version = source
    plan = replace(ModelPlan(PROJECT, version, "bioimageio"), **change)
    with pytest.raises(SettingsError, match=said):
        export_model(plan, tmp_path / "out", registry)
    assert list((tmp_path / "out").iterdir()) == []


def test_only_force_replaces_a_file(source, tmp_path):
    registry, version = source
    plan = ModelPlan(PROJECT, version, "torchscript")
    path = export_model(plan, tmp_path, registry)
    path.write_bytes(b"mine")
    with pytest.raises(SettingsError, match=f"{path.name} already, which --force replaces"):
        export_model(plan, tmp_path, registry)
    assert path.read_bytes() == b"mine"
    export_model(replace(plan, force=True), tmp_path, registry)
    assert scripted(path)


def test_what_a_killed_export_left_is_no_obstacle(source, tmp_path):
    registry, version = source
    plan = ModelPlan(PROJECT, version, "torchscript")
    path = export_model(plan, tmp_path, registry)
    left = path.with_name(f".{path.name}.partial")
    left.mkdir()
    (left / path.name).write_bytes(b"half")
    path.unlink()
    assert export_model(plan, tmp_path, registry) == path
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(source, tmp_path):
    registry, version = source
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskFullError):
            export_model(ModelPlan(PROJECT, version, "torchscript"), tmp_path / "out", registry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(source, tmp_path):
    registry, version = source
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match=r"--out is .*file, where no file can be made"):
        export_model(ModelPlan(PROJECT, version, "onnx"), tmp_path / "file", registry)


# In


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
