"""Nobody uses the backend who is not meant to: without credentials, by guessing, from elsewhere."""

import logging
from dataclasses import replace

import httpx
import pytest

from biosegment.errors import SettingsError

EVENT = {"action": "START_TRAINING", "project": {"id": 1}}


def test_only_health_answers_without_credentials(installation):
    for path in ("/", "/metrics", "/versions", "/static/status.css", "/projects/1/options"):
        assert httpx.get(installation.url + path).status_code == 401
    assert httpx.post(f"{installation.url}/webhook", json=EVENT).status_code == 401
    answer = httpx.get(f"{installation.url}/health")
    assert answer.json() == {"status": "UP", "model_class": "BioSegment"}
    assert httpx.get(f"{installation.url}/versions", auth=installation.auth).status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", {}),
        ("2001:db8::7", {}),
        ("127.0.0.1", {"Host": "backend.example"}),
        ("127.0.0.1", {"Host": "127.0.0.1.evil.example"}),
        ("127.0.0.1", {"Host": "["}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
    ],
    ids=str,
)
def test_a_backend_without_credentials_answers_its_own_machine_only(http, peer, headers):
    elsewhere = {"environ_base": {"REMOTE_ADDR": peer}, "headers": headers}
    for answer in (http.get("/", **elsewhere), http.post("/webhook", json=EVENT, **elsewhere)):
        assert answer.status_code == 403
        assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS" in answer.json["error"]
    assert http.get("/health", **elsewhere).status_code == 200
    assert http.application.extensions["biosegment"].jobs.queue.job_ids == []


@pytest.mark.parametrize("host", ["localhost:9090", "127.0.0.1:9090", "[::1]:9090"])
def test_its_own_machine_is_answered(http, host):
    assert http.post("/webhook", json=EVENT, headers={"Host": host}).status_code == 201


@pytest.mark.parametrize(
    ("user", "password", "name"),
    [("", "", "BASIC_AUTH_USER"), ("backend", "a-short-one", "BASIC_AUTH_PASS")],
)
def test_a_backend_that_others_reach_does_not_start_unprotected(
    make_app, settings, user, password, name
):
    exposed = replace(
        settings,
        backend_url="http://backend:9090",
        basic_auth_user=user,
        basic_auth_pass=password,
    )
    with pytest.raises(SettingsError, match=rf"^The setting {name} ") as refused:
        make_app(exposed)
    assert "a-short-one" not in str(refused.value)
    make_app(replace(exposed, basic_auth_user="backend", basic_auth_pass="x" * 16))


def test_guesses_are_logged_and_counted_but_not_quoted(make_app, settings, caplog):
    app = make_app(replace(settings, basic_auth_user="backend", basic_auth_pass="x" * 16))
    with app.test_client() as http, caplog.at_level(logging.DEBUG):
        for guess in ("guess-one", "guess-two"):
            assert http.get("/", auth=("backend", guess)).status_code == 401
        counted = http.get("/metrics", auth=("backend", "x" * 16)).text
    refused = [line for line in caplog.messages if line.startswith("refused wrong credentials")]
    assert len(refused) == 2
    assert "guess" not in caplog.text
    assert 'status="401"' in counted


def test_what_comes_from_outside_cannot_forge_a_line_of_the_log(installation):
    forged = "2026-11-22 10:00:00,000 INFO ml_backend.loop: all is well"
    event = {"tasks": [], "label_config": "<View/>", "project": 1}
    httpx.post(f"{installation.url}/predict%0A{forged}", json=event, auth=installation.auth)
    httpx.post(
        f"{installation.url}/job_status", json={"job": f"a\n{forged}"}, auth=installation.auth
    )
    httpx.post(
        f"{installation.url}/validate", json={"config": f"<a>\n{forged}"}, auth=installation.auth
    )
    assert not [line for line in installation.log("backend").splitlines() if line == forged]
