"""`biosegment tune` on the real stack, and the sentences it ends with."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from ml_backend.jobs import JobQueue, connect
from ml_backend.model_registry import ModelRegistry
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TITLE = "Tuning"
SMALL = Recipe(learning_rate=4e-3, widths=(4, 8), dice_weight=0.5, augmentation=0.5)


@pytest.fixture(scope="module")
def truth():
    mask = np.zeros((1, 192, 192), np.uint8)
    mask[0, 20:150, 40:150] = 1
    return mask


@pytest.fixture(scope="module")
def project(stack, truth, tmp_path_factory):
    """Nine tiles, of a project that is never trained by itself and in one step."""
    path = tmp_path_factory.mktemp("squares") / "squares.tif"
    noise = np.random.default_rng(0).normal(150, 15, truth.shape) - 70.0 * truth
    tifffile.imwrite(path, noise.clip(0, 255).astype(np.uint8), photometric="minisblack")
    options = ["--labels", "square", "--tile", "64", "--retrain-every", "99"]
    done = stack.cli(
        "import", str(path), "--project", TITLE, *options, BIOSEGMENT_TRAINING_EFFORT="0.001"
    )
    assert done.returncode == 0, done.stderr
    return stack.client.find_project(TITLE)


def one_sentence(said):
    return said.startswith("Error: ") and said.count("\n") == 1 and said.endswith(".\n")


def test_what_cannot_be_tuned_is_one_sentence(stack, project):
    done = stack.cli("tune", "No such project")
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)
    assert "has no project 'No such project'" in done.stderr
    done = stack.cli("tune", TITLE)
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)
    assert "at least 6 annotated tasks, 2 of them with foreground" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    done = stack.cli("tune", TITLE, "--apply", "--reset")
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)


def test_without_redis_or_worker_it_says_so(stack, project, redis_process):
    nowhere = "redis://127.0.0.1:1/0"
    address = {"LABEL_STUDIO_URL": stack.settings.label_studio_url}
    address["LABEL_STUDIO_API_KEY"] = stack.settings.label_studio_api_key
    done = stack.cli("tune", TITLE, REDIS_URL=nowhere, **address)
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)
    assert "The job queue (Redis at 127.0.0.1:1) does not answer" in done.stderr
    done = stack.cli("tune", TITLE, REDIS_URL=redis_process.url, **address)
    assert (done.returncode, one_sentence(done.stderr)) == (1, True)
    assert "No worker takes jobs" in done.stderr


def test_a_search_outlives_its_command_and_gives_way(stack, project, truth, wait_until):
    stack.annotate(project, truth, 7)
    command = [sys.executable, "-c", "from biosegment.cli import main; main()"]
    watching = subprocess.Popen(
        [*command, "tune", TITLE, "--trials", "2"],
        env=stack.environment | {"COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with connect(stack.settings) as connection:
        jobs = JobQueue(connection)

        def running():
            ids = jobs.queue.started_job_registry.get_job_ids()
            return any(each.startswith(f"tune-{project['id']}-") for each in ids)

        wait_until(running, 120, "the search runs")
        time.sleep(1)
        os.kill(watching.pid, signal.SIGINT)
        said, _ = watching.communicate(timeout=60)
        assert watching.returncode != 0
        assert "It goes on in the worker" in said
        jobs.request_turn(project["id"])

    done = stack.cli("tune", TITLE, "--trials", "2", "--apply")
    assert done.returncode == 0, done.stderr
    report = stack.data_root / "tuning" / str(project["id"]) / "report.md"
    assert str(report) in done.stdout
    assert "mean IoU" in done.stdout
    assert "2 recipes tried" in report.read_text()
    path = ModelRegistry(stack.data_root).recipe_path(project["id"])
    assert path.exists() is ("is recommended" in done.stdout)
    path.unlink(missing_ok=True)


def test_a_recipe_is_used_until_it_is_reset(stack, project, wait_until):
    registry, number = ModelRegistry(stack.data_root), project["id"]
    path = registry.recipe_path(number)

    def trained():
        before = registry.current(number)
        assert stack.cli("train", TITLE).returncode == 0
        wait_until(lambda: registry.current(number) != before, 200, "a version is there")
        return registry.card(number, registry.current(number))

    SMALL.write(path)
    card = trained()
    assert tuple(card.training["widths"]) == SMALL.widths == tuple(card.architecture_spec["widths"])
    assert card.training["learning_rate"] == SMALL.learning_rate
    assert card.training["dice_weight"] == card.training["augmentation"] == 0.5

    done = stack.cli("tune", TITLE, "--reset")
    assert done.returncode == 0, done.stderr
    assert not path.exists()
    default = Recipe.of(TrainingSpec(("background", "square")))
    training = trained().training
    assert {name: training[name] for name in ("learning_rate", "dice_weight")} == {
        "learning_rate": default.learning_rate,
        "dice_weight": default.dice_weight,
    }
    assert tuple(training["widths"]) == default.widths


def test_a_damaged_recipe_is_told_on_the_status(stack, project, wait_until):
    path = ModelRegistry(stack.data_root).recipe_path(project["id"])
    path.write_text("{}")
    assert stack.cli("train", TITLE).returncode == 0
    said = wait_until(
        lambda: (lambda text: text if "Tuning: " in text else None)(stack.cli("status").stdout),
        120,
        "the status tells",
    )
    assert "failed, see below" in said
    assert f"{path} cannot be used" in said
    assert stack.cli("tune", TITLE, "--reset").returncode == 0
