import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from PIL import Image
from rq import SimpleWorker

from biosegment.errors import TooFewLabelsError
from biosegment.labels import UNKNOWN
from ml_backend import tuning
from ml_backend.dataset import LabelledTile
from ml_backend.jobs import JobQueue, connect
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec
from ml_backend.tuning import Comparison, Measured, Outcome, Search, prepare, search_space
from ml_backend.tuning_data import TuningData, is_saved
from ml_backend.tuning_job import tuning_folder
from ml_backend.tuning_report import write_report

SPEC = TrainingSpec(
    ("background", "disc"),
    widths=(4, 8),
    first_steps=2,
    batch_size=4,
    crop_px=16,
    ema_decay=0.5,
)
CURRENT = Recipe.of(SPEC)
ENOUGH = 40
"""Steps after which a network has learnt something, and recipes differ."""


def disc_task(seed, foreground=True):
    """One or two small tiles, bright discs on dark ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    tiles = []
    for _ in range(1 + seed % 2):
        y, x = rng.integers(5, 11, size=2)
        mask = ((rows - y) ** 2 + (columns - x) ** 2 < 16 * foreground).astype(np.uint8)
        image = 0.3 + 0.4 * mask + 0.1 * rng.random(mask.shape)
        tiles.append(LabelledTile(image.astype(np.float32), mask))
    return tiles


def tuning_data(foreground=4, background=3, **changes):
    tasks = [disc_task(n) for n in range(foreground)]
    tasks += [disc_task(10 + n, foreground=False) for n in range(background)]
    annotations = {str(number): "2026-11-22T10:00:00Z" for number in range(len(tasks))}
    return TuningData(replace(SPEC, **changes), tasks, annotations)


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch):
    monkeypatch.setattr(tuning, "PYRAMIDS", ((4, 8), (4, 8, 8)))
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tuning" / "3"
    prepare(path, tuning_data())
    return path


def never():
    return False


def quiet(stage, done, total):
    pass


def run(folder, trials=3, report=quiet, pause=never):
    search = Search(folder, TuningData.load(folder))
    return search.run(trials, report, pause), search


def trials_of(search):
    return [(t.params, t.state, t.user_attrs["ious"]) for t in search.tried()]


def test_a_search_measures_the_recipe_in_use_first(folder):
    seen = []
    outcome, search = run(folder, report=lambda *state: seen.append(state))
    assert outcome.trials == 3
    first = search.tried()[0]
    assert first.params == asdict(CURRENT) | {"widths": "4-8"}
    assert outcome.found.current == Measured(CURRENT, tuple(first.user_attrs["ious"]))
    assert len(first.user_attrs["ious"]) == 3
    assert outcome.found.best.mean == search.best_iou >= outcome.found.current.mean
    assert seen[:3] == [("searching", done, 15) for done in (0, 3, 6)]
    assert {stage for stage, _, _ in seen} <= {"searching", "measuring the best anew"}


def test_the_best_is_measured_anew_beside_the_recipe_in_use(tmp_path):
    slow = tuning_data(learning_rate=3e-4, first_steps=ENOUGH)
    prepare(tmp_path, slow)
    outcome, search = run(tmp_path, trials=3)
    assert search.best_iou > outcome.found.current.mean
    confirmed = outcome.confirmed
    assert confirmed.current.recipe == Recipe.of(slow.spec)
    assert confirmed.best.recipe == outcome.found.best.recipe
    assert confirmed.best.ious != outcome.found.best.ious
    assert confirmed.current.ious != outcome.found.current.ious


def test_a_search_that_is_over_is_not_done_again(folder, monkeypatch):
    outcome, _ = run(folder)
    monkeypatch.setattr(tuning, "train", None)
    assert run(folder)[0] == outcome
    assert run(folder, trials=2)[0] == outcome


def test_more_trials_join_those_that_are_there(folder):
    _, search = run(folder, trials=2)
    before = trials_of(search)
    outcome, search = run(folder, trials=4)
    assert outcome.trials == 4
    assert trials_of(search)[:2] == before


def test_an_interruption_after_every_training_changes_nothing(tmp_path):
    data = tuning_data(first_steps=ENOUGH)
    one, other = tmp_path / "one", tmp_path / "other"
    prepare(one, data)
    prepare(other, data)
    expected, whole = run(one, trials=3)
    outcome, parts = None, 0
    while outcome is None:
        outcome, search = run(other, trials=3, pause=lambda: True)
        parts += 1
    assert parts >= 9
    assert outcome == expected
    assert trials_of(search) == trials_of(whole)


def test_a_killed_search_goes_on_with_the_fold_it_was_at(folder, tmp_path):
    expected, whole = run(folder, trials=2)
    other = tmp_path / "other"
    prepare(other, tuning_data())
    for trainings in (1, 2):
        left = iter(range(trainings))

        def die(left=left):
            if next(left, None) is None:
                raise SystemExit
            return False

        with pytest.raises(SystemExit):
            run(other, trials=2, pause=die)
    journal = other / tuning.JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code":6,"unfinish')
    outcome, search = run(other, trials=2)
    assert outcome == expected
    assert trials_of(search) == trials_of(whole)


def test_a_search_killed_before_its_first_trial_still_begins_with_the_recipe_in_use(folder):
    search = Search(folder, TuningData.load(folder))
    search._study.ask()
    _, search = run(folder, trials=2)
    assert search.tried()[0].params == asdict(CURRENT) | {"widths": "4-8"}


def test_the_study_on_disk_is_json_that_runs_no_code(folder):
    run(folder, trials=2)
    assert {path.name for path in folder.iterdir()} == {"settings.json", "study.jsonl", "tiles.npz"}
    for line in (folder / tuning.JOURNAL).read_text().splitlines():
        json.loads(line)


def test_bad_recipes_are_given_up_after_a_fold(tmp_path):
    prepare(tmp_path, tuning_data(learning_rate=1e-2, first_steps=ENOUGH))
    outcome, search = run(tmp_path, trials=9)
    pruned = [trial for trial in search.tried() if trial.state == TrialState.PRUNED]
    assert 0 < len(pruned) == outcome.pruned < 9
    assert all(len(trial.user_attrs["ious"]) < 3 for trial in pruned)
    assert any(len(trial.user_attrs["ious"]) == 1 for trial in pruned)
    assert search.tried()[0].state == TrialState.COMPLETE


def test_a_network_without_room_is_given_up(folder, monkeypatch):
    real, seen = tuning.train, []

    def train(training, validation, spec):
        seen.append(spec)
        if len(seen) == 4:
            raise torch.OutOfMemoryError
        return real(training, validation, spec)

    monkeypatch.setattr(tuning, "train", train)
    outcome, search = run(folder, trials=3)
    assert (outcome.trials, outcome.pruned) == (3, 1)
    report = write_report(folder, search, outcome)
    assert report.exists()


def test_what_is_searched():
    space = search_space(CURRENT)
    assert set(space) == set(asdict(CURRENT))
    rates = space["learning_rate"]
    assert (rates.low, rates.high, rates.log) == (3e-4, 1e-2, True)
    assert space["widths"].choices == ("4-8", "4-8-8")
    assert (space["dice_weight"].high, space["augmentation"].high) == (2, 2)


def test_a_recipe_in_use_outside_the_space_widens_it():
    outside = Recipe(0.05, (3, 6, 9), 4.0, 2.5)
    space = search_space(outside)
    assert space["learning_rate"].high == 0.05
    assert "3-6-9" in space["widths"].choices
    assert (space["dice_weight"].high, space["augmentation"].high) == (4, 2.5)


def comparison(current, best):
    return Comparison(
        Measured(CURRENT, current), Measured(replace(CURRENT, widths=(4, 8, 8)), best)
    )


@pytest.mark.parametrize(
    ("current", "best", "recommended"),
    [
        ((0.5, 0.6, 0.7), (0.6, 0.7, 0.8), True),
        ((0.5, 0.6, 0.7), (0.55, 0.67, 0.76), True),
        ((0.5, 0.6, 0.7), (0.8, 0.55, 0.7), False),
        ((0.5, 0.6, 0.7), (0.5, 0.6, 0.7), False),
        ((0.5, 0.6, 0.7), (0.4, 0.5, 0.6), False),
        ((0.5, 0.6), (0.5, 0.7), False),
    ],
    ids=["clearly", "on every fold", "on one fold", "equal", "worse", "within the noise"],
)
def test_only_a_gain_above_the_noise_is_recommended(current, best, recommended):
    found = comparison((0.1, 0.1, 0.1), (0.9, 0.9, 0.9))
    outcome = Outcome(found, comparison(current, best), trials=20, pruned=5)
    assert outcome.recommended is recommended


def test_without_a_better_recipe_nothing_is_recommended():
    assert not Outcome(comparison((0.5, 0.5), (0.5, 0.5)), None, 20, 5).recommended


def test_gain_and_noise_by_hand():
    compared = comparison((0.5, 0.6, 0.7), (0.6, 0.6, 0.9))
    assert compared.gain == pytest.approx(0.1)
    assert compared.noise == pytest.approx(0.1)
    assert compared.current.spread == pytest.approx(0.1)


@pytest.mark.parametrize("confirmed", [None, comparison((0.5, 0.6), (0.7, 0.7))])
def test_an_outcome_survives_the_queue(confirmed):
    outcome = Outcome(comparison((0.5, 0.6), (0.7, 0.7)), confirmed, 20, 5)
    back = Outcome.from_json(json.loads(json.dumps(asdict(outcome))))
    assert back == outcome


def test_every_task_is_in_one_fold_and_every_fold_has_foreground():
    data = tuning_data(foreground=4, background=9)
    folds = data.folds(seed=0)
    assert sorted(np.concatenate(folds)) == list(range(13))
    assert [len(fold) for fold in folds] == [5, 4, 4]
    assert all((fold < 4).any() for fold in folds)
    assert all(np.array_equal(*pair) for pair in zip(folds, data.folds(seed=0), strict=True))
    assert any(sorted(a) != sorted(b) for a, b in zip(folds, data.folds(seed=1), strict=True))


def test_two_tasks_with_foreground_make_two_folds():
    folds = tuning_data(foreground=2, background=4).folds(seed=0)
    assert [(fold < 2).sum() for fold in folds] == [1, 1]


def test_tiles_of_a_task_stay_together():
    data = tuning_data()
    training, validation = data.split(np.array([1, 2]))
    assert validation == [*data.tasks[1], *data.tasks[2]]
    assert len(training) + len(validation) == sum(map(len, data.tasks))


@pytest.mark.parametrize(("foreground", "background"), [(5, 0), (1, 9), (0, 0)])
def test_too_few_labels_are_one_sentence(tmp_path, foreground, background):
    with pytest.raises(TooFewLabelsError, match="needs at least 6 annotated tasks, 2 of them"):
        prepare(tmp_path / "new", tuning_data(foreground, background))
    assert not (tmp_path / "new").exists()


def test_tiles_come_back_as_they_were(tmp_path):
    data = tuning_data()
    data.tasks[0][0].mask[0] = UNKNOWN
    data.save(tmp_path)
    back = TuningData.load(tmp_path)
    assert (back.spec, back.annotations) == (data.spec, data.annotations)
    for before, after in zip(data.tasks, back.tasks, strict=True):
        for one, other in zip(before, after, strict=True):
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.mask, other.mask)
            assert (other.image.dtype, other.mask.dtype) == (np.float32, np.uint8)


@pytest.mark.parametrize("what", ["annotation", "recipe"])
def test_another_question_begins_a_new_search(folder, what):
    run(folder, trials=2)
    assert is_saved(folder, tuning_data())
    prepare(folder, tuning_data())
    assert len(Search(folder, TuningData.load(folder)).tried()) == 2
    changed = tuning_data(background=4) if what == "annotation" else tuning_data(dice_weight=0.5)
    prepare(folder, changed)
    assert Search(folder, TuningData.load(folder)).tried() == []


def test_the_report_tells_everything(folder):
    outcome, search = run(folder, trials=3)
    report = write_report(folder, search, outcome)
    text = report.read_text()
    assert "7 annotated tasks in 3 folds" in text
    assert f"{outcome.found.current.mean:.3f} ± {outcome.found.current.spread:.3f}" in text
    assert "classes: background, disc" in text
    assert "trials.csv" in text
    with (folder / "trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["trial"] for line in lines] == ["0", "1", "2"]
    assert float(lines[0]["mean_iou"]) == pytest.approx(outcome.found.current.mean)
    assert float(lines[1]["learning_rate"]) == search.tried()[1].params["learning_rate"]
    assert all(line["train_s"] for line in lines)
    for name in ("history.png", "parameters.png"):
        with Image.open(folder / name) as picture:
            picture.verify()
            assert name in text


# The job, on a real Redis and worker. What goes on reads nothing from Label Studio.


@pytest.fixture
def jobs(settings, monkeypatch):
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    with connect(settings, timeout_s=5) as connection:
        yield JobQueue(connection)


def work(jobs):
    queue = jobs.queue
    SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer).work(burst=True)


def test_the_job_searches_and_reports(jobs, settings):
    prepare(tuning_folder(settings.data_root, 3), tuning_data())
    job = jobs.job(jobs.continue_tuning(3, 2))
    work(jobs)
    assert job.is_finished, job.latest_result()
    result = job.return_value()
    outcome = Outcome.from_json(result["outcome"])
    assert outcome.trials == 2
    assert result["report"] == str(settings.data_root / "tuning" / "3" / "report.md")
    meta = job.get_meta()
    assert meta["stage"] == "done"
    assert meta["best_iou"] == pytest.approx(outcome.found.best.mean)


def test_a_turn_of_the_loop_comes_between_two_trainings(jobs, settings):
    prepare(tuning_folder(settings.data_root, 3), tuning_data())
    asked = jobs.continue_tuning(3, 2), jobs.request_turn(8)
    work(jobs)
    search, turn = map(jobs.job, asked)
    following = jobs.job(search.return_value()["goes_on_as"])
    assert following.is_finished
    assert Outcome.from_json(following.return_value()["outcome"]).trials == 2
    assert search.ended_at <= turn.started_at <= turn.ended_at <= following.started_at


def test_a_job_without_label_studio_fails_in_one_sentence(jobs, settings):
    from ml_backend.status import failure_reason

    job = jobs.job(jobs.request_tuning(3, 2))
    work(jobs)
    assert failure_reason(job).startswith(f"Label Studio at {settings.label_studio_url}")
