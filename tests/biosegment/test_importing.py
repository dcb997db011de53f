from functools import partial

import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from biosegment.cli import app, importing
from biosegment.cli.console import console
from biosegment.geometry import VoxelSize
from biosegment.settings import LoopOptions, Settings
from importers import project
from importers.convert import import_volume
from importers.preprocessing.bin import Bin
from importers.preprocessing.invert import Invert
from importers.project import ImportedProject, ProjectPlan
from importers.testing import example


@pytest.fixture
def shown(monkeypatch, tmp_path, capsys):
    """Import a source as the command does, Label Studio left out; returns what was printed."""

    def import_project(source, plan, settings, report):
        progress = partial(report, "importing slices")
        store = import_volume(
            source, settings.data_root, plan.volume, progress, voxel_size=plan.voxel_size
        )
        return ImportedProject(1, store, 0, 0, 0, LoopOptions())

    monkeypatch.setattr(project, "import_project", import_project)
    monkeypatch.setattr(console, "width", 300)

    def show(source, voxel_size=None):
        plan = ProjectPlan("EM", ["cell"], "em", voxel_size=voxel_size)
        importing.import_and_show(source, plan, Settings(data_root=tmp_path / "data"))
        return capsys.readouterr().out

    return show


def test_an_unknown_voxel_size_is_asked_for_and_can_be_given_later(shown, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", example("uint8"), photometric="minisblack")
    assert "--voxel-size 40,5,5nm" in shown(tmp_path / "stack.tif")
    said = shown(tmp_path / "stack.tif", VoxelSize(40, 5, 4))
    assert "40 x 5 x 4 nm" in said
    assert "--voxel-size" not in said


def test_a_gap_in_the_numbering_is_told_at_the_import(shown, tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    for z in (1, 2, 3, 5):
        Image.new("L", (4, 3)).save(folder / f"s{z}.png")
    assert "Slice 4 is missing between s3.png and s5.png." in shown(folder)


def test_preprocessing_steps_reach_the_import(monkeypatch):
    plans = []
    monkeypatch.setattr(importing, "import_and_show", lambda _, plan, __: plans.append(plan))
    command = ["import", "a.tif", "--project", "EM", "--labels", "cell"]
    done = CliRunner().invoke(app, [*command, "--preprocess", "bin=2,invert"])
    assert done.exit_code == 0, done.output
    assert plans[0].steps == (Bin((2, 2, 2)), Invert())
