import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from rq import SimpleWorker
from rq.job import JobStatus

from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from ml_backend.model_registry import ModelRegistry
from ml_backend.rounds import AnnotationRecord, Overlap

TITLE = 'Cells <b>& "walls"</b>'


def problems(page):
    return re.findall(r'<p class="problem" role="alert">(.*?)</p>', page)


def live(page):
    return re.search(r'<dd class="live">(.*?)</dd>', page).group(1)


def test_without_label_studio_the_versions_are_shown(http, serve, settings):
    version = serve(3)
    answer = http.get("/")
    assert answer.status_code == 200
    (problem,) = problems(answer.text)
    assert settings.label_studio_url in problem
    assert "project 3" in answer.text
    assert version in answer.text
    assert "not measured yet" in live(answer.text)


def test_without_redis_the_rest_is_shown(http, serve, redis_process):
    version = serve(3)
    redis_process.stop()
    answer = http.get("/")
    assert answer.status_code == 200
    assert len(problems(answer.text)) == 2
    assert "job queue" in problems(answer.text)[1]
    assert version in answer.text
    redis_process.start()
    assert len(problems(http.get("/").text)) == 1


def test_nothing_is_there_yet(http):
    answer = http.get("/")
    assert answer.status_code == 200
    assert len(problems(answer.text)) == 1


def test_a_job_that_waits_and_one_that_runs(http, serve, jobs):
    serve(3)
    job = jobs.job(jobs.request_turn(3))
    assert "waiting for a worker" in http.get("/").text
    job.set_status(JobStatus.STARTED)
    job.meta.update(stage="training", done=1, total=4)
    job.save_meta()
    page = http.get("/").text
    assert "training" in page
    assert 'value="25"' in page


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (None, "training, 25 %\n"),
        (20.0, "training, 25 %, less than a minute left"),
        (150.0, "training, 25 %, about 2 min left"),
        (9000.0, "training, 25 %, about 2 h left"),
    ],
)
def test_how_long_a_job_still_takes(http, serve, jobs, left_s, said):
    serve(3)
    job = jobs.job(jobs.request_turn(3))
    job.set_status(JobStatus.STARTED)
    job.meta.update(stage="training", done=1, total=4, left_s=left_s)
    job.save_meta()
    assert said in http.get("/").text


def test_why_a_job_failed_is_one_sentence(http, serve, jobs, settings, monkeypatch):
    serve(3)
    jobs.request_turn(3)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    queue = jobs.queue
    SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer).work(burst=True)
    page = http.get("/").text
    assert f"failed: Label Studio at {settings.label_studio_url}: it does not answer" in page
    assert "Traceback" not in page


def test_the_live_iou_and_what_the_last_round_brought(http, serve_rounds):
    _, second, third = serve_rounds(3)
    page = http.get("/").text
    assert (
        live(page) == f"0.739 ± 0.076 of {second} on 2 tiles; 85 % of the proposed pixels were kept"
    )
    assert f'<dd class="version">{third}</dd>' in page
    [advice] = re.findall(r'<dd class="advice">(.*?)</dd>', page)
    assert advice.startswith("The last round brought +0.360 ± ")


def test_the_live_iou_of_several_classes(http, serve):
    tile = {"a": Overlap(4, 4, 4), "b": Overlap(0, 4, 0), "c": Overlap(0, 0, 0)}
    serve(3, parent=serve(3), round=[AnnotationRecord("1", 1, None, None, tile)])
    said = live(http.get("/").text)
    assert said.startswith("0.500 of ")
    assert "on 1 tile (a 1.00, b 0.00, c absent); 100 %" in said


def test_the_effort_is_a_table(http, serve_rounds):
    serve_rounds(3)
    [link] = re.findall(r'href="([^"]*effort.csv)"', http.get("/").text)
    answer = http.get(link)
    assert answer.mimetype == "text/csv"
    assert len(answer.text.splitlines()) == 1 + 8


def test_the_learning_curve_is_a_picture(http, serve_rounds):
    serve_rounds(3)
    answer = http.get("/projects/3/curve.svg")
    assert answer.status_code == 200
    assert answer.mimetype == "image/svg+xml"
    assert ET.fromstring(answer.data).tag.endswith("svg")


def test_a_project_without_versions_has_an_empty_curve(http):
    assert http.get("/projects/99/curve.svg").status_code == 200


def test_a_curve_needs_a_project_number(http):
    for path in ("/projects/../1/curve.svg", "/projects/x/curve.svg", "/projects/-1/curve.svg"):
        assert http.get(path).status_code == 404


def test_the_style_sheet_is_there(http):
    with http.get("/static/status.css") as answer:
        assert answer.status_code == 200


@pytest.mark.stack
def test_a_project_of_label_studio_is_shown(stack, settings, serve, make_app):
    with LabelStudioClient(stack.settings) as client:
        project = client.create_project(TITLE, labelling_config(["cell"]))["id"]
        client.create_tasks(
            project,
            [{"image": "/a.png", "volume": "sample", "z": z, "y": 1, "x": 2} for z in (7, 8)],
        )
        client.connect_backend(project, stack.settings.loop)
        client.import_predictions(
            project,
            [
                {"task": task["id"], "result": [], "score": score, "model_version": "v"}
                for task, score in zip(client.tasks(project), (0.9, 0.125), strict=True)
            ],
        )
        client.set_model_version(project, "v")
    here = replace(stack.settings, data_root=settings.data_root, redis_url=settings.redis_url)
    version = serve(project)
    assert ModelRegistry(here.data_root).current(project) == version
    with make_app(here).test_client() as http:
        auth = (here.basic_auth_user, here.basic_auth_pass)
        page = http.get("/", auth=auth).text
    section = page[page.index(f'id="project-{project}"') :]
    section = section[: section.index("</section>")]
    assert not problems(page)
    assert "<b>&" not in page
    assert "Cells &lt;b&gt;&amp; &#34;walls&#34;&lt;/b&gt;" in section
    assert version in section
    assert "0 of 2 tasks" in section
    rows = re.findall(r"<tr><td>.*?</tr>", section, re.DOTALL)
    assert "0.125" in rows[0]
    assert "<td>8</td>" in rows[0]
    assert "0.900" in rows[1]
