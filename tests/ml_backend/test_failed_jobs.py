"""Failed work on the status page: the reason in one sentence, and a button that asks again."""

import re
from dataclasses import asdict

import pytest
from rq import SimpleWorker
from typer.testing import CliRunner

from biosegment.cli import app as cli
from ml_backend.loop_job import LoopJob
from ml_backend.segmentation import SegmentationPlan
from ml_backend.segmentation_job import Order
from ml_backend.status import failures


@pytest.fixture
def work(jobs, settings, monkeypatch):
    """Do what waits; Label Studio does not answer, and there is no volume."""
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    def do():
        queue = jobs.queue
        SimpleWorker(
            [queue],
            connection=queue.connection,
            job_class=LoopJob,
            serializer=queue.serializer,
        ).work(burst=True, logging_level="CRITICAL")

    return do


def order(volume="sample"):
    plan = SegmentationPlan(3, "0001-20261122T101530", flips=False)
    return asdict(Order(volume, "made", plan))


def listed(http):
    """Return the lines of the list of failures, and where the button of each leads."""
    page = http.get("/").text
    assert "Traceback" not in page
    section = page.partition('<section class="failures">')[2].partition("</section>")[0]
    lines = re.findall(r"<td>(.*?)</td>\s*<td><form method=\"post\" action=\"(.*?)\">", section)
    return [line for line, _ in lines], [action for _, action in lines]


def test_nothing_failed(http, jobs, serve):
    serve(3)
    jobs.request_turn(3)
    assert listed(http) == ([], [])


def test_each_kind_of_work_fails_for_a_reason(http, jobs, work, serve, settings):
    serve(3)
    jobs.request_turn(3)
    jobs.request_tuning(4, 20)
    jobs.request_segmentation(order())
    work()
    lines, _ = listed(http)
    away = f"Label Studio at {settings.label_studio_url}: it does not answer"
    assert lines[0].startswith("project 3: the segmentation of sample failed: ")
    assert "no volume" in lines[0]
    assert lines[1].startswith(f"project 4: the search for a recipe failed: {away}")
    assert lines[2].startswith(f"project 3: training and ranking failed: {away}")
    assert len(lines) == 3


@pytest.mark.parametrize("kind", ["turn", "forced turn", "tuning", "segmentation"])
def test_the_button_asks_again_and_the_entry_goes(http, jobs, work, kind):
    ask = {
        "turn": lambda: jobs.request_turn(3),
        "forced turn": lambda: jobs.request_turn(3, force=True),
        "tuning": lambda: jobs.request_tuning(3, 20),
        "segmentation": lambda: jobs.request_segmentation(order()),
    }[kind]
    failed = jobs.job(ask())
    work()
    _, [button] = listed(http)
    answer = http.post(button)
    assert answer.status_code == 303
    assert answer.location == "/"
    assert listed(http) == ([], [])
    [job_id] = jobs.queue.job_ids
    again = jobs.job(job_id)
    assert again.id != failed.id
    assert (again.func_name, again.args) == (failed.func_name, failed.args)
    # A page that was open meanwhile has the button still.
    assert http.post(button).status_code == 303
    assert jobs.queue.job_ids == [job_id]


def test_what_fails_again_is_listed_once(http, jobs, work):
    jobs.request_segmentation(order())
    jobs.request_segmentation(order("other"))
    work()
    _, buttons = listed(http)
    assert len(buttons) == 2
    http.post(buttons[0])
    lines, _ = listed(http)
    assert len(lines) == 1
    assert "segmentation of sample" in lines[0]
    work()
    assert len(listed(http)[0]) == 2


def test_asking_anew_elsewhere_takes_the_entry_away(http, jobs, work):
    jobs.request_turn(3, force=True)
    work()
    jobs.request_turn(3)
    assert listed(http) == ([], [])


def test_other_sites_cannot_press_the_button(http, jobs, work):
    jobs.request_turn(3)
    work()
    _, [button] = listed(http)
    answer = http.post(button, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert http.get(button).status_code == 405
    assert jobs.queue.job_ids == []
    assert len(listed(http)[0]) == 1


def test_only_what_failed_is_asked_for_again(http, jobs):
    waiting = jobs.request_turn(3)
    assert http.post(f"/jobs/{waiting}/retry").status_code == 303
    assert http.post("/jobs/turn-7-0123/retry").status_code == 303
    assert jobs.queue.job_ids == [waiting]


def test_without_redis_nothing_is_listed(jobs, redis_process):
    redis_process.stop()
    assert failures(jobs) == []


def test_the_terminal_shows_it_as_well(jobs, work):
    jobs.request_turn(3)
    jobs.request_segmentation(order())
    work()
    shown = CliRunner().invoke(cli, ["status"]).output
    assert "project 3: training and ranking failed: Label Studio at http" in shown
    assert "project 3: the segmentation of sample failed: " in shown
    assert "Traceback" not in shown


def test_a_name_that_is_markup_is_text(http, jobs, work):
    jobs.request_segmentation(order("<b>x</b>"))
    work()
    assert "&lt;b&gt;" in listed(http)[0][0]
