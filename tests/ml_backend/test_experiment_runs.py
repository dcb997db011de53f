"""Real processes, on a volume of a few tiles."""

import csv
import os
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import psutil
import pytest

from biosegment.errors import DiskFullError, RunEndedError, UnreadableFileError
from biosegment.geometry import Roi
from ml_backend.experiment import GroundTruth, Protocol, Run, simulate
from ml_backend.experiment_runs import Experiment, carry_out, load_rounds, load_state, save_state
from ml_backend.training import TrainingSpec

SPEC = TrainingSpec(
    ("background", "bright"), widths=(4, 8), first_steps=3, finetune_steps=2, batch_size=4
)
PROTOCOL = Protocol(pool=8, initial=2, per_round=2, labels=6, tile_px=16, converged_steps=3)
RUNS = [Run("random", 0), Run("entropy", 0), Run("full", 0)]


@pytest.fixture
def experiment(tmp_path):
    rng = np.random.default_rng(0)
    masks = (rng.random((2, 32, 24)) < 0.3).astype(np.uint8)
    images = (0.2 + 0.6 * masks).astype(np.float32)
    halves = Roi(0, 0, 0, 2, 16, 24), Roi(0, 16, 0, 2, 16, 24)
    return Experiment(tmp_path, GroundTruth(images, masks, *halves), PROTOCOL, SPEC)


def table(experiment):
    """Return results.csv without the seconds, in which no two runs agree."""
    with (experiment.folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["train_s"]) > 0 for row in rows)
    assert all(float(row["rank_s"]) >= 0 for row in rows)
    return [
        (row["strategy"], int(row["seed"]), int(row["labels"]), float(row["iou"])) for row in rows
    ]


def first_state(experiment, run):
    return next(simulate(run, experiment.truth, PROTOCOL, SPEC))


def working():
    """Return the processes of runs: children of the server that forks them, and of no other."""
    return [
        run
        for server in psutil.Process().children()
        if server.status() != psutil.STATUS_ZOMBIE and "forkserver" in " ".join(server.cmdline())
        for run in server.children()
    ]


def test_an_interrupted_experiment_gives_the_same_results(experiment, tmp_path):
    other = replace(experiment, folder=tmp_path / "other")
    other.folder.mkdir()
    events = list(carry_out(other, RUNS, jobs=2, threads=1))
    assert len(events) == 7
    whole = table(other)
    assert [row[:3] for row in whole] == [
        ("entropy", 0, 2), ("entropy", 0, 4), ("entropy", 0, 6), ("full", 0, 8),
        ("random", 0, 2), ("random", 0, 4), ("random", 0, 6),
    ]  # fmt: skip

    with closing(carry_out(experiment, RUNS, jobs=1, threads=1)) as rounds:
        assert next(rounds)[1].labels == 2
        assert len(table(experiment)) == 1
    assert working() == []
    done = experiment.results()[RUNS[0]]
    again = list(carry_out(experiment, RUNS, jobs=1, threads=1))
    assert len(again) == 7 - len(done)
    assert table(experiment) == whole


def test_a_lost_table_is_made_from_the_states(experiment):
    run = Run("random", 3)
    state = first_state(experiment, run)
    save_state(experiment.state_path(run), state)
    assert list(carry_out(experiment, [], jobs=1, threads=1)) == []
    assert table(experiment) == [("random", 3, 2, state.rounds[0].iou)]


def test_results_alone_are_added_to(experiment):
    list(carry_out(experiment, RUNS[:1], jobs=1, threads=1))
    known = table(experiment)
    experiment.state_path(RUNS[0]).unlink()
    assert [run for run, _ in carry_out(experiment, RUNS[:2], jobs=1, threads=1)] == [RUNS[1]] * 3
    assert [row for row in table(experiment) if row[0] == "random"] == known


def test_a_damaged_table_is_told(experiment):
    (experiment.folder / "results.csv").write_text("strategy,seed\nrandom,0\n")
    with pytest.raises(UnreadableFileError, match="delete it"):
        experiment.results()


def test_a_killed_process_is_told_in_one_sentence(experiment):
    long = replace(experiment, spec=replace(SPEC, first_steps=100_000))
    rounds = carry_out(long, [Run("random", 0)], jobs=1, threads=1)

    def kill_the_first():
        while not working():
            time.sleep(0.01)
        os.kill(working()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with pytest.raises(RunEndedError, match="exit code -9"):
        list(rounds)
    killer.join()


def test_an_error_of_a_run_reaches_the_caller(experiment):
    experiment.state_path(RUNS[0]).parent.mkdir()
    experiment.state_path(RUNS[0]).write_bytes(b"nothing")
    with pytest.raises(UnreadableFileError, match="delete it"):
        list(carry_out(experiment, RUNS, jobs=1, threads=1))


def test_states_survive_the_disk(experiment):
    path = experiment.state_path(RUNS[1])
    assert load_state(path, SPEC) is None
    state = first_state(experiment, RUNS[1])
    save_state(path, state)
    loaded = load_state(path, SPEC)
    assert (loaded.rounds, loaded.labelled) == (state.rounds, state.labelled)
    assert load_rounds(path) == state.rounds
    expected = state.network.state_dict()
    assert all(
        (value == expected[name]).all() for name, value in loaded.network.state_dict().items()
    )
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_states_of_another_network_are_refused(experiment):
    path = experiment.state_path(RUNS[1])
    save_state(path, first_state(experiment, RUNS[1]))
    with pytest.raises(UnreadableFileError, match="delete it"):
        load_state(path, replace(SPEC, widths=(4, 4)))


def test_a_full_disk_is_told(experiment, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DiskFullError):
        experiment.write_results()
