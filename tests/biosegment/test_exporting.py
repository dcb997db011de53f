"""``biosegment export`` of volumes, which needs no server."""

import sys

import numpy as np
import pytest
import tifffile
import zarr

from biosegment.cli import main
from biosegment.geometry import Roi, VoxelSize
from biosegment.ome_zarr import create_image, image_array
from biosegment.store import VolumeStore, volume_path
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

SHAPE = (3, 40, 50)


@pytest.fixture
def store(tmp_path):
    store = VolumeStore.create(
        volume_path(tmp_path / "data", "brain"), SHAPE, "uint8", VoxelSize(40, 5, 4)
    )
    volume = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    store.write(Roi.whole(SHAPE), volume)
    store.finish((0, 255), {})
    store.create_labels("cells", ["cell"])
    store.write_labels("cells", Roi.whole(SHAPE), volume // 128)
    store.finish_labels("cells")
    return store


@pytest.fixture
def model(tmp_path):
    """A project, by its number, that has a model; and the version."""
    network = UNet(UNetSpec(2, widths=(4, 8))).eval()
    card = ModelCard.of(
        TrainedModel(network, TrainingSpec(("background", "cell"), widths=(4, 8)), 1, {}),
        strategy="random", annotations={}, left_out={}, lead_time_s=0.0, parent=None,
    )  # fmt: skip
    registry = ModelRegistry(tmp_path / "data")
    version = registry.next_version(3)
    registry.save(3, version, network, card)
    registry.promote(3, version)
    return "3", version


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, store):
    """Export into ``out``; returns the exit code and what was printed."""

    def export(*arguments):
        for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("BIOSEGMENT_DATA", str(tmp_path / "data"))
        monkeypatch.chdir(tmp_path)
        command = ["biosegment", "export", *map(str, arguments), "--out", "out"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return export


def test_a_volume_goes_out_and_says_where(run, store, tmp_path):
    code, out, _ = run("brain", "--format", "tiff")
    assert code == 0
    assert out.splitlines()[-2:] == ["out/brain_labels.tif written", "out/brain_image.tif written"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "brain_image.tif",
        "brain_labels.tif",
    ]
    whole = Roi.whole(SHAPE)
    image, labels = (tifffile.imread(tmp_path / f"out/brain_{x}.tif") for x in ("image", "labels"))
    np.testing.assert_array_equal(image, store.read(whole))
    np.testing.assert_array_equal(labels, store.read_labels("cells", whole))


def test_options_choose_what_goes_out(run, store, tmp_path):
    options = ["--region", "0:2,:,10:30", "--labels", "cells", "--no-image", "--level", "0"]
    name = "brain_z0-2_y0-40_x10-30_labels.tif"
    assert run("brain", *options)[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    found = tifffile.imread(tmp_path / "out" / name)
    np.testing.assert_array_equal(found, store.read_labels("cells", Roi(0, 0, 10, 2, 40, 20)))
    code, _, said = run("brain", *options)
    assert (code, said) == (
        1,
        f"Error: The setting --out has {name} already, which --force replaces.\n",
    )
    assert run("brain", *options, "--force")[0] == 0


def test_names_that_were_changed_are_told_in_one_line(run, store):
    store.create_labels("named", ["my cell", "ER"])
    store.write_labels("named", Roi.whole(SHAPE), np.ones(SHAPE, "uint8"))
    store.finish_labels("named")
    options = ["--format", "amira", "--labels", "named", "--no-image"]
    code, out, _ = run("brain", *options)
    assert code == 0
    assert out.splitlines()[-2:] == [
        "out/brain_labels.am written",
        'Names that the format cannot hold were changed: "my cell" is "my_cell".',
    ]


def test_a_map_of_the_labels_goes_out_in_place_of_them(run, store, tmp_path):
    group = zarr.open_group(store.path / "labels" / "cells", mode="r+")
    create_image(group.create_group("maps/uncertainty"), "uncertainty", SHAPE, "uint8", None)
    values = np.random.default_rng(1).integers(0, 256, SHAPE, "uint8")
    image_array(group, "maps/uncertainty")[:] = values
    name = "brain_uncertainty_z1-3_y0-40_x0-50_image.tif"
    assert run("brain", "--map", "uncertainty", "--region", "1:3,:,:")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / name), values[1:3])
    code, _, said = run("brain", "--map", "probability-cell")
    assert (code, said.count("\n")) == (1, 1)
    assert "--map is probability-cell, and the labels have other maps: uncertainty" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["brian"], "--tiles or --tasks has to be given for tiles of a project, and brian is no"),
        (["brain", "--context", "0"], "--context goes with --tiles or --tasks"),
        (["brain", "--volume", "brain"], "--volume goes with --tiles or --tasks"),
        (["1", "--tiles", "2", "--tasks", "3"], "--tiles says how many, or --tasks which"),
        (["1", "--tiles", "2", "--labels", "cells"], "--labels is for volumes, not for --tiles"),
        (["1", "--tiles", "2", "--image"], "--image is for volumes, not for --tiles"),
        (["1", "--tiles", "2", "--no-image"], "--no-image is for volumes, not for --tiles"),
        (["1", "--tasks", "2", "--region", ":,:,:"], "--region is for volumes, not for --tiles"),
        (["1", "--tasks", "2", "--level", "0"], "--level is for volumes, not for --tiles"),
        (["1", "--tiles", "2", "--force"], "--force is for volumes, not for --tiles"),
        (["1", "--tasks", "two"], "--tasks is a list of numbers"),
        (["brain", "--region", "0:10"], "'0:10' is no region"),
        (["brain", "--format", "psd"], "bioimageio, torchscript, onnx, not psd"),
        (["brain", "--map", "uncertainty"], "the labels have other maps: none"),
        (["brain", "--map", "uncertainty", "--labels", "none"], "have other maps: none"),
        (["1", "--tiles", "2", "--map", "uncertainty"], "--map is for volumes, not for --tiles"),
        (["brain", "--labels", "none", "--no-image"], "--no-image leaves nothing to write"),
        (["3", "--format", "onnx", "--labels", "cells"], "--labels is not for a model"),
        (["3", "--format", "onnx", "--no-image"], "--no-image is not for a model"),
        (["3", "--format", "torchscript", "--region", ":,:,:"], "--region is not for a model"),
        (["3", "--format", "bioimageio", "--level", "0"], "--level is not for a model"),
        (["3", "--format", "bioimageio", "--tiles", "2"], "--tiles is not for a model"),
        (["3", "--format", "bioimageio", "--tasks", "2"], "--tasks is not for a model"),
        (["3", "--format", "onnx", "--volume", "brain"], "--volume is not for a model"),
        (["3", "--format", "onnx", "--author", "A"], "--author goes with --format bioimageio"),
        (["brain", "--license", "MIT"], "--license goes with --format bioimageio"),
        (["3@0009-20261122T101530", "--format", "onnx"], "no model version '0009-20261122T101530'"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(run, model, tmp_path, arguments, said):
    code, out, errors = run(*arguments)
    assert (code, out.strip()) == (1, "")
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert said in errors
    assert not (tmp_path / "out").exists()


def test_a_model_goes_out_and_says_where(run, model, tmp_path):
    project, version = model
    path = tmp_path / "out" / f"project3_{version}.torchscript.pt"
    code, out, _ = run(project, "--format", "torchscript")
    assert (code, out) == (0, f"{path.relative_to(tmp_path)} written\n")
    code, _, said = run(f"{project}@{version}", "--format", "torchscript")
    assert (code, said) == (
        1,
        f"Error: The setting --out has {path.name} already, which --force replaces.\n",
    )
    assert run(project, "--format", "torchscript", "--force")[0] == 0


def test_a_level_below_0_exits_with_2(run):
    code, _, said = run("brain", "--level", "-1")
    assert code == 2
    assert "--level" in said
