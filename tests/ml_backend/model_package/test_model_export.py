"""Trained versions leave as files for other programs."""

import io
import json
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
import pytest
import torch
import yaml

from biosegment.errors import DiskFullError, SettingsError
from ml_backend.live_quality import live_qualities
from ml_backend.model_export import ModelPlan, export_model
from ml_backend.model_package import CARD, PackageCard
from ml_backend.model_zoo import channel_names
from ml_backend.model_zoo_page import model_name
from ml_backend.predictor import Predictor
from tests.ml_backend.model_package.conftest import ANNOTATION, CLASSES, PROJECT, member

STRIDE = 4


@pytest.fixture
def predicted(network, monkeypatch):
    """Return the probabilities that BioSegment computes in 32-bit floats: (B, C, H, W)."""
    monkeypatch.setattr("ml_backend.predictor.has_bfloat16", lambda _: False)
    predictor = Predictor(network, torch.device("cpu"))
    return lambda images: np.stack(list(predictor.probabilities(images[:, 0])))


def images(batch, height, width, seed=0):
    return np.random.default_rng(seed).random((batch, 1, height, width), np.float32)


def scripted(path, extra=None):
    with warnings.catch_warnings():
        # Programs that run TorchScript go on to; torch itself has announced its end.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path), _extra_files=extra)


def description(package):
    return yaml.safe_load(member(package, "rdf.yaml"))


def array(package, name):
    return np.load(io.BytesIO(member(package, name)))


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
