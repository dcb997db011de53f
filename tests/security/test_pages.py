"""Pages: what browsers are told, that they need no more than that, and what is escaped."""

import shutil
import threading
from dataclasses import replace

import httpx
import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from biosegment.geometry import Roi
from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import LoopOptions
from biosegment.store import VolumeStore
from biosegment.unfinished_labels import UnfinishedLabels, write_blocks

TITLE = "<img src=x onerror=alert(1)><b>bold</b>"
POLICY = {
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
}


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics", "/health", "/static/status.css"])
def test_browsers_are_told_how_far_to_trust_an_answer(http, path):
    with http.get(path) as answer:
        headers = answer.headers
    assert {each.strip() for each in headers["Content-Security-Policy"].split(";")} == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_a_refusal_is_told_the_same(make_app, settings):
    app = make_app(replace(settings, basic_auth_user="backend", basic_auth_pass="x" * 16))
    answer = app.test_client().get("/")
    assert answer.status_code == 401
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_picture_that_is_opened_alone_runs_nothing(http, serve_rounds):
    serve_rounds(1)
    policy = http.get("/projects/1/curve.svg").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


@pytest.fixture
def here(stack, settings):
    """The stack's Label Studio, with a data root and a queue of our own."""
    return replace(stack.settings, data_root=settings.data_root, redis_url=settings.redis_url)


@pytest.fixture
def project(here, volume, make_task):
    """A connected project with a hostile title."""
    with LabelStudioClient(here) as client:
        number = client.create_project(TITLE, labelling_config(["mitochondria"]))["id"]
        client.create_tasks(number, [make_task(0, z=3, x=x)["data"] for x in (0, 32)])
        client.connect_backend(number, LoopOptions())
    yield number
    headers = {"Authorization": f"Token {here.label_studio_api_key}"}
    address = f"{here.label_studio_url}/api/projects/{number}/"
    httpx.delete(address, headers=headers, timeout=60).raise_for_status()


@pytest.fixture
def segmented(here, volume, project):
    """The volume, with labels that tell how sure they are."""
    store = VolumeStore.open(here.data_root, "sample")
    source = {"project_id": project, "version": "0001-20261122T101530"}
    with UnfinishedLabels.begin(store, "cells", ["cell"], source, 1, ["uncertainty"]) as labels:
        for z in range(store.shape[0]):
            plane = np.full((1, *store.shape[1:]), 50 * z, np.uint8)
            blocks = {"labels": plane > 0, "uncertainty": plane}
            write_blocks(store, "cells", Roi.slice_of(store.shape, z), blocks)
        labels.finish()


@pytest.fixture
def address(make_app, here):
    """Where the backend is served over HTTP."""
    server = make_server("127.0.0.1", 0, make_app(here), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def browser(here):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        user, password = here.basic_auth_user, here.basic_auth_pass
        context = started.new_context(http_credentials={"username": user, "password": password})
        yield context
        started.close()


@pytest.mark.stack
@pytest.mark.browser
def test_a_browser_blocks_nothing_and_runs_nothing(
    address, browser, project, segmented, serve_rounds
):
    serve_rounds(project)
    page, complaints = browser.new_page(), []

    def note(message):
        # Chromium asks for a picture of the site that no page names.
        if not message.location["url"].endswith("/favicon.ico"):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    uncertainty = f"/projects/{project}/uncertainty/sample?z=3&y=10&x=10"
    for path in ("/", f"/projects/{project}/options", f"/projects/{project}/segment", uncertainty):
        page.goto(address + path)
        assert "BioSegment" in page.title()
        assert TITLE in page.inner_text("h2 >> nth=-1") or TITLE in page.inner_text("main")
        # Styles and pictures are there.
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px"
        missing = "[...document.images].filter(each => !each.naturalWidth).map(each => each.src)"
        assert page.evaluate(missing) == []
    assert page.locator("input[type=image]").count() == 2
    page.get_by_role("button", name="Label this tile").or_(
        page.get_by_text("task")
    ).first.wait_for()
    page.goto(f"{address}/projects/{project}/options")
    page.fill("input[name=retrain_every]", "7")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url(lambda url: url.startswith(f"{address}/#"))
    assert "after every 7 annotations" in page.inner_text(f"#project-{project}")
    assert complaints == []


@pytest.mark.stack
@pytest.mark.browser
def test_a_browser_does_not_let_other_sites_in(address, browser, project, site):
    """Neither in a frame, nor by a form with the user's own credentials."""
    form = f"<form method=post action={address}/projects/{project}/options><input name=strategy"
    content = f"<iframe src={address}/></iframe>{form} value=random><button>Win</button></form>"
    site.pages["/"] = (200, {"Content-Type": "text/html"}, content.encode())
    page = browser.new_page()
    page.goto(f"{address}/")
    page.goto(site.url.replace("127.0.0.1", "localhost"))
    assert "BioSegment" not in "".join(frame.content() for frame in page.frames[1:])
    with page.expect_navigation():
        page.get_by_role("button", name="Win").click()
    assert "Another site asked for this" in page.content()
