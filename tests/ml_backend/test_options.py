"""The form that changes how a project's loop runs, and what the queue makes of it."""

import html
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from rq import SimpleWorker

from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import NEUTRAL_SCORE
from biosegment.settings import LoopOptions
from ml_backend.loop import Loop
from ml_backend.lost_work import LostWork
from ml_backend.queue_names import KEPT
from ml_backend.strategies import STRATEGIES, descriptions

pytestmark = pytest.mark.stack

OPTIONS = LoopOptions("entropy", retrain_every=50, training_effort=0.5)


@pytest.fixture
def project(client, volume, make_task, here):
    """A connected project whose six tasks no model has seen."""
    number = client.create_project("Options <of> a loop", labelling_config(["mitochondria"]))["id"]
    tasks = [make_task(0, z=3, x=x, width=width)["data"] for x in (0, 32, 64) for width in (16, 32)]
    client.create_tasks(number, tasks, first=3)
    client.connect_backend(number, OPTIONS)
    yield number
    headers = {"Authorization": f"Token {here.label_studio_api_key}"}
    address = f"{here.label_studio_url}/api/projects/{number}/"
    httpx.delete(address, headers=headers, timeout=60).raise_for_status()


@pytest.fixture
def app(make_app, here):
    return make_app(here)


@pytest.fixture
def page(app, here, project):
    """Open or send the form."""
    http, auth = app.test_client(), (here.basic_auth_user, here.basic_auth_pass)

    def ask(**form):
        address = f"/projects/{project}/options"
        return http.post(address, data=form, auth=auth) if form else http.get(address, auth=auth)

    return ask


@pytest.fixture
def work(jobs, here, monkeypatch):
    """Run the turns that wait."""
    for name, value in here.environment().items():
        monkeypatch.setenv(name, value)
    queue = jobs.queue
    worker = SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer)
    return lambda: worker.work(burst=True)


def scores(client, project, queue):
    """Return task -> score; each of the tasks has one of the queue, and these order it."""
    assert client.project(project)["model_version"] == queue
    every = client._sdk.predictions.list(project=project)
    predictions = [each for each in every if each.model_version == queue]
    found = {each.task: each.score for each in predictions}
    assert len(found) == len(predictions) == 6
    [head] = client.head_of_queue(project, 1)
    assert found[head["id"]] == min(found.values())
    return found


def test_the_form_shows_what_is_used_and_what_there_is(page, project):
    shown = page()
    assert shown.status_code == 200
    text = html.unescape(shown.text)
    assert "Options &lt;of&gt; a loop" in shown.text
    assert "Now in use: entropy, a training after every 50 annotations" in text
    for name, description in descriptions().items():
        assert description.endswith(".")
        assert f">{name}: {description}</option>" in text
    assert set(descriptions()) == set(STRATEGIES)
    assert shown.text.count(" selected>") == 1
    assert 'value="50"' in shown.text


def test_a_new_strategy_ranks_the_queue_anew_with_the_same_model(
    page, project, client, serve, jobs, work
):
    version = serve(project)
    jobs.request_turn(project)
    work()
    by_entropy = scores(client, project, f"{version} (entropy)")

    answer = page(strategy="random", retrain_every="7")
    assert answer.status_code == 303
    assert answer.location == f"/#project-{project}"
    changed = replace(OPTIONS, strategy="random", retrain_every=7)
    assert client.loop_options(project) == changed
    work()
    by_chance = scores(client, project, f"{version} (random)")
    assert by_chance != by_entropy
    assert client.next_task(project)["id"] == min(by_chance, key=by_chance.get)
    LostWork(jobs).find(client)
    assert not [job for job in jobs.queue.job_ids if job.startswith(f"turn-{project}-")]

    # As an import does, or somebody in Label Studio: the worker finds it out by itself.
    client.connect_backend(project, OPTIONS)
    LostWork(jobs).find(client)
    assert [job for job in jobs.queue.job_ids if job.startswith(f"turn-{project}-")]
    work()
    assert scores(client, project, f"{version} (entropy)") == by_entropy


@pytest.fixture
def turn(here, client, project):
    """Run a turn, as if some client of Label Studio were our own."""

    def run(client=client):
        Loop(here, client).turn(project, force=False, report=lambda *_: None)

    return run


def test_what_may_be_open_in_a_page_stays(project, client, serve, turn, registry):
    """Label Studio refuses an annotation whose prediction is gone."""
    turn()
    first = serve(project)
    turn()
    client.connect_backend(project, replace(OPTIONS, strategy="random"))
    turn()
    second = serve(project)
    turn()
    client.import_predictions(
        project,
        [
            {"task": t, "result": [], "score": 0.5, "model_version": "made elsewhere"}
            for t in scores(client, project, f"{second} (random)")
        ],
    )
    serving, elsewhere = f"{second} (random)", "made elsewhere"
    of_the_first = {f"{first} (entropy)", f"{first} (random)"}
    turn()
    assert set(client.model_versions(project)) == {"untrained", *of_the_first, serving, elsewhere}

    def saved_long_ago(version):
        card = registry._root / str(project) / version / "card.json"
        then = datetime.now(UTC) - KEPT - timedelta(minutes=1)
        content = json.loads(card.read_text()) | {"created": then.isoformat()}
        card.write_text(json.dumps(content))

    saved_long_ago(first)
    turn()
    assert set(client.model_versions(project)) == {*of_the_first, serving, elsewhere}
    saved_long_ago(second)
    turn()
    assert set(client.model_versions(project)) == {serving, elsewhere}
    assert client.project(project)["model_version"] == serving


class Interrupted(LabelStudioClient):
    """Dies in the middle of publishing."""

    def import_predictions(self, project_id, predictions, *_):
        super().import_predictions(project_id, predictions[:2])
        raise KeyboardInterrupt


class InterruptedBefore(LabelStudioClient):
    """Dies before the first score is published."""

    def import_predictions(self, *_):
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [Interrupted, InterruptedBefore])
def test_an_interrupted_ranking_is_completed(project, client, serve, here, turn, kind):
    version = serve(project)
    turn()
    by_entropy = scores(client, project, f"{version} (entropy)")
    client.connect_backend(project, replace(OPTIONS, strategy="random"))
    with kind(here) as dying, pytest.raises(KeyboardInterrupt):
        turn(dying)
    assert scores(client, project, f"{version} (entropy)") == by_entropy
    turn()
    by_chance = scores(client, project, f"{version} (random)")
    assert by_chance != by_entropy
    turn()
    assert scores(client, project, f"{version} (random)") == by_chance
    # Back again while another ranking is half done: no score of it counts.
    client.connect_backend(project, replace(OPTIONS, strategy="least_confidence"))
    with kind(here) as dying, pytest.raises(KeyboardInterrupt):
        turn(dying)
    client.connect_backend(project, OPTIONS)
    turn()
    assert scores(client, project, f"{version} (entropy)") == by_entropy


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"strategy": "guess"}, "There is no strategy 'guess'; choose one of: badge, bald"),
        ({"strategy": "<b>"}, "There is no strategy '<b>'"),
        ({"retrain_every": "0"}, "The setting retrain_every must be 1 or more."),
        ({"retrain_every": "often"}, "retrain_every must be a whole number, got 'often'."),
        ({"retrain_every": ""}, "retrain_every must be a whole number"),
        ({"strategy": "random", "retrain_every": "-1"}, "must be 1 or more"),
    ],
)
def test_what_makes_no_sense_changes_nothing(page, project, client, jobs, form, said):
    answer = page(**form)
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)
    assert "<b>" not in answer.text
    assert client.loop_options(project) == OPTIONS
    assert jobs.queue.job_ids == []


def test_a_project_that_is_not_connected(app, here, client):
    unconnected = client.create_project("Not connected", labelling_config(["cell"]))["id"]
    http, auth = app.test_client(), (here.basic_auth_user, here.basic_auth_pass)
    for answer in (
        http.get(f"/projects/{unconnected}/options", auth=auth),
        http.post(f"/projects/{unconnected}/options", data={"strategy": "random"}, auth=auth),
    ):
        assert answer.status_code == 404
        assert "is not connected" in answer.json["error"]
    assert http.get("/projects/999999/options", auth=auth).status_code == 404


def test_before_the_first_model_the_status_page_says_what_comes(app, here, project, client):
    http, auth = app.test_client(), (here.basic_auth_user, here.basic_auth_pass)
    page = http.get("/", auth=auth).text
    section = page[page.index(f'id="project-{project}"') :].partition("</section>")[0]
    assert "none yet: the first tasks are spread over the volume; the model is trained" in section
    assert "after 50 annotations" in section
    assert "entropy, a training after every 50 annotations" in section
    assert f'href="/projects/{project}/options"' in section
    assert "0.000" not in section
    first = client.head_of_queue(project, 3)
    assert [each["predictions_score"] for each in first] == [0, NEUTRAL_SCORE / 3, 1 / 3]
