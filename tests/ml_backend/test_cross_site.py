"""Pages of other sites cannot change anything with the credentials that a browser remembers."""

import json
from dataclasses import replace

import pytest

AUTH = ("backend", "secret")
EVENT = {"action": "START_TRAINING", "project": {"id": 1}}
POSTS = ["/setup", "/predict", "/webhook", "/versions", "/validate", "/job_status"]
CHANGE = "/projects/1/options"
OTHER_SITES = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://localhost:8080"},
    {"Origin": "null"},
    {"Origin": ""},
]


@pytest.fixture
def browser(make_app, settings):
    app = make_app(replace(settings, basic_auth_user=AUTH[0], basic_auth_pass=AUTH[1]))
    with app.test_client() as client:
        yield client


@pytest.fixture
def jobs(browser):
    return browser.application.extensions["biosegment"].jobs


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
def test_another_site_changes_nothing(browser, jobs, headers):
    form = {"strategy": "random", "retrain_every": "5"}
    answers = [browser.post(CHANGE, data=form, auth=AUTH, headers=headers)]
    answers += [browser.post(path, json=EVENT, auth=AUTH, headers=headers) for path in POSTS]
    assert {answer.status_code for answer in answers} == {403}
    assert all(list(answer.json) == ["error"] for answer in answers)
    assert jobs.queue.job_ids == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://name-behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_our_own_pages_and_programs_get_through(browser, jobs, headers):
    assert browser.post("/webhook", json=EVENT, auth=AUTH, headers=headers).status_code == 201
    assert len(jobs.queue.job_ids) == 1


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_form_is_no_json(browser, jobs, kind):
    """All that a form can send, from a browser that says nothing of where it comes from."""
    for path in ("/setup", "/predict", "/webhook", "/validate", "/job_status"):
        answer = browser.post(path, data=json.dumps(EVENT), content_type=kind, auth=AUTH)
        assert answer.status_code == 400
    assert jobs.queue.job_ids == []


@pytest.mark.parametrize("path", ["/", "/projects/1/curve.svg", CHANGE])
def test_pages_cannot_be_framed(browser, path):
    answer = browser.get(path, auth=AUTH, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code != 403
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_other_sites_are_told_nothing_about_what_they_may_send(browser):
    answer = browser.options("/webhook", headers={"Origin": "https://evil.example"}, auth=AUTH)
    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]  # noqa: SIM118
