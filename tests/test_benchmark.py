"""``biosegment benchmark`` as a user runs it, on a small made-up volume."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from biosegment.cli import main
from importers.samples import write_synthetic
from ml_backend.experiment_runs import Experiment

PROGRAM = (sys.executable, "-c", "from biosegment.cli import main; main()", "benchmark")
SMALL = ("--budget", "22", "--pool", "24", "--tile", "32", "--effort", "0.01", "--seeds", "1")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("sample"), shape=(3, 256, 128))


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys):
    """Run the command with results in ``out``; returns its exit code and what it printed."""

    def run(*arguments):
        words = ["biosegment", "benchmark", *arguments, "--out", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        try:
            main()
        except SystemExit as ended:
            return ended.code or 0, *capsys.readouterr()
        raise AssertionError("a command ends by exiting")

    return run


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_plot_and_settings(benchmark, sample, tmp_path):
    out = tmp_path / "out"
    options = [*SMALL, "--strategies", "random", "--jobs", "2", "--out", str(out)]
    done = subprocess.run(
        [*PROGRAM, str(sample.raw), str(sample.labels), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "converged" in done.stdout
    first = rows(out)
    assert [(row["strategy"], row["seed"], row["labels"]) for row in first] == [
        ("converged", "0", "24"),
        ("full", "0", "24"),
        ("random", "0", "20"),
        ("random", "0", "22"),
    ]
    settings = json.loads((out / "settings.json").read_text())
    assert settings["protocol"]["pool"] == 24
    assert settings["training"]["effort"] == 0.01
    assert settings["runs"] == {"strategies": ["random"], "seeds": 1, "ceilings": True}
    assert {"biosegment", "torch", "python"} <= set(settings["versions"])
    with Image.open(out / "curves.png") as plot:
        assert plot.size[0] > 800

    # Another strategy joins those that are done; other settings would not compare.
    code, said, errors = benchmark(sample.raw, sample.labels, *SMALL, "--strategies", "entropy")
    assert (code, errors) == (0, "")
    assert "entropy, seed 0: 22 labels" in said
    assert [row for row in rows(out) if row["strategy"] != "entropy"] == first
    settings = json.loads((out / "settings.json").read_text())
    assert settings["runs"]["strategies"] == ["random", "entropy"]
    code, _, errors = benchmark(sample.raw, sample.labels, *SMALL, "--budget", "23")
    assert code == 1
    assert "labels: 22 there, 23 here" in " ".join(errors.split())
    assert len(rows(out)) == 6


def test_interrupted_and_taken_up(benchmark, sample, tmp_path, monkeypatch):
    """Ctrl-C after the first round; the same command then does the rest."""
    write_results = Experiment.write_results
    # As in a terminal: a shell lets its background jobs ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def write_and_press_ctrl_c(experiment):
        write_results(experiment)
        if experiment.results():
            signal.raise_signal(signal.SIGINT)

    arguments = [sample.raw, sample.labels, *SMALL, "--strategies", "random", "--no-ceilings"]
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "write_results", write_and_press_ctrl_c)
        code, _, errors = benchmark(*arguments)
    assert code == 130
    assert errors == "Interrupted; the same command takes up where it stopped.\n"
    (first,) = rows(tmp_path / "out")
    assert benchmark(*arguments)[0] == 0
    assert rows(tmp_path / "out")[0] == first
    assert [row["labels"] for row in rows(tmp_path / "out")] == ["20", "22"]


def test_termination_ends_all_processes(sample, tmp_path, wait_until):
    options = [*SMALL, "--effort", "100", "--jobs", "2", "--out", str(tmp_path / "out")]
    command = [*PROGRAM, str(sample.raw), str(sample.labels), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        started = psutil.Process(process.pid)

        def training():
            runs = [child for child in started.children(recursive=True) if not child.children()]
            return runs if sum(run.cpu_times().user > 5 for run in runs) == 2 else None

        runs = wait_until(training, 120, "two runs are busy")
        process.terminate()
        assert process.wait(20) == 130
    assert psutil.wait_procs(runs, timeout=10)[1] == []


def with_volume(folder, shape, value):
    tifffile.imwrite(
        folder / "labels.tif", np.full(shape, value, np.uint8), photometric="minisblack"
    )
    return folder / "labels.tif"


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (None, ["--protocol", "slow"], "--protocol is quick or paper, not slow"),
        (None, ["--strategies", "random,guess"], "no strategy 'guess'"),
        (None, ["--budget", "999"], "--budget asks for 999 labelled tiles, and the pool has 24"),
        ("nowhere.tif", [], "no file or folder"),
        (((3, 256, 127), 1), [], "3 x 256 x 127"),
        (((3, 256, 128), 0), [], "the half that is labelled has no foreground"),
    ],
)
def test_bad_input_is_one_sentence(benchmark, sample, tmp_path, labels, options, said):
    if isinstance(labels, tuple):
        labels = with_volume(tmp_path, *labels)
    code, _, errors = benchmark(sample.raw, labels or sample.labels, *SMALL, *options)
    assert code == 1
    text = " ".join(errors.split())
    assert text.startswith("Error: ")
    assert text.endswith(".")
    assert said in text
    assert not (tmp_path / "out").exists()
