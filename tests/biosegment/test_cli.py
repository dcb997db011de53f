import io
import re
import socket
import subprocess
import sys

import pytest
import tifffile
from rich.console import Console

from biosegment import __version__
from biosegment.cli import main
from biosegment.cli.console import folding_table
from biosegment.cli.importing import volume_name
from importers.testing import example


@pytest.fixture
def data_root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", example("uint8"), photometric="minisblack")
    return tmp_path / "stack.tif"


@pytest.fixture
def run(monkeypatch, capsys, data_root, free_port):
    """Run a command; returns its exit code and what it printed."""

    def run_command(*arguments, **environ):
        known = {
            "BIOSEGMENT_DATA": str(data_root),
            "LABEL_STUDIO_URL": f"http://127.0.0.1:{free_port}",
            "COLUMNS": "300",
        }
        for name, value in (known | environ).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["biosegment", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run_command


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def one_sentence(said):
    return said.startswith("Error: ") and said.count("\n") == 1 and said.endswith(".\n")


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("demo", "up", "import", "status", "effort"))


def test_version(run):
    assert run("--version") == (0, f"biosegment {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["import"],
        ["import", "a.tif", "--project", "EM stack"],
        ["import", "a.tif", "--project", "EM stack", "--labels", "a", "--colour", "red"],
        ["import", "a.tif", "--project", "EM stack", "--labels", "a", "--tile", "4"],
        ["import", "a.tif", "--project", "EM stack", "--labels", "a", "--tile", "many"],
        ["import", "a.tif", "--project", "EM stack", "--labels", "a", "--retrain-every", "0"],
        ["up", "--port", "99999"],
        ["up", "--backend-port", "0"],
        ["demo", "--simulate", "-1"],
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(run, data_root, arguments):
    code, out, said = run(*arguments)
    assert code == 2
    assert "Traceback" not in said
    assert said
    assert not out
    assert not data_root.exists()


def import_command(source, *options):
    return ["import", source, "--project", "EM stack", "--labels", "mitochondria", *options]


def test_import_without_label_studio_writes_nothing(run, source, data_root, free_port):
    code, _, said = run(*import_command(source), LABEL_STUDIO_API_KEY="abc")
    assert code == 1
    assert one_sentence(said)
    assert f"http://127.0.0.1:{free_port}" in said
    assert "does not answer" in said
    assert not data_root.exists()


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (["--strategy", "guess"], {}, "choose one of: badge, bald"),
        (["--tile", "32", "--overlap", "32"], {}, "--overlap"),
        (["--voxel-size", "5,5,5mm"], {}, "below 100 µm"),
        ([], {"LABEL_STUDIO_URL": "label.example"}, "LABEL_STUDIO_URL"),
        ([], {"BIOSEGMENT_RETRAIN_EVERY": "often"}, "retrain_every"),
        ([], {"REDIS_URL": "nowhere"}, "REDIS_URL"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_1(
    run, source, data_root, options, environ, said
):
    code, out, errors = run(*import_command(source, *options), **environ)
    assert code == 1
    assert one_sentence(errors)
    assert said in errors
    assert not out
    assert not data_root.exists()


@pytest.mark.parametrize("command", [["effort", "EM stack"], ["train", "EM stack"]])
def test_a_project_needs_label_studio(run, command):
    code, out, said = run(*command, LABEL_STUDIO_API_KEY="abc")
    assert code == 1
    assert one_sentence(said)
    assert not out


def test_brackets_in_a_message_are_shown_as_they_are(run, source):
    _, _, said = run(*import_command(source, "--strategy", "[/bold][red]x"))
    assert "'[/bold][red]x'" in said


def test_a_narrow_table_cuts_nothing_off():
    table = folding_table("", "")
    table.add_row("spaced_entropy", "3")
    narrow = Console(width=14, file=io.StringIO())
    narrow.print(table)
    assert re.sub(r"[^a-z_]", "", narrow.file.getvalue()) == "spaced_entropy"


def test_a_port_in_use_is_one_sentence(run, data_root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, said = run("up", "--port", port)
    assert code == 1
    assert one_sentence(said)
    assert f"Port {port} is in use" in said
    assert not data_root.exists()


def test_a_stack_without_its_truth_cannot_be_simulated(run, source, data_root):
    code, _, said = run("demo", "--sample", source, "--simulate", 10)
    assert code == 1
    assert one_sentence(said)
    assert "--truth" in said
    assert not data_root.exists()


def test_help_needs_no_torch():
    code = "import sys; sys.argv[1:] = ['--help']; from biosegment.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'flask', 'rq', 'redis'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("stack.tif", "stack"),
        ("my stack (1).ome.tiff", "my-stack--1"),
        ("Zellkörper.tif", "Zellk-rper"),
        ("___.tif", "volume"),
    ],
)
def test_a_volume_is_called_after_its_file(tmp_path, name, volume):
    (tmp_path / name).touch()
    assert volume_name(tmp_path / name) == volume


def test_a_volume_is_called_after_its_folder(tmp_path):
    (tmp_path / "slices.v2").mkdir()
    assert volume_name(tmp_path / "slices.v2") == "slices-v2"


@pytest.mark.parametrize(
    "address",
    ["https://host/a/cells.ome.zarr", "s3://bucket/cells.n5/", "https://host/cells.zarr?key=a.b"],
)
def test_a_volume_behind_an_address_is_called_after_its_end(address):
    assert volume_name(address) == "cells"


def test_the_suffix_of_a_zarr_folder_is_left_out(tmp_path):
    (tmp_path / "cells.ome.zarr").mkdir()
    assert volume_name(tmp_path / "cells.ome.zarr") == "cells"


def test_an_address_reaches_the_readers_as_it_was_given(run):
    code, _, said = run("info", "ftp://host//cells.zarr")
    assert (code, said) == (
        1,
        "Error: ftp://host//cells.zarr cannot be reached: only http, https and s3 addresses are "
        "followed.\n",
    )
