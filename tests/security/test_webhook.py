"""Webhooks that are forged, replayed, oversized, nested without end, or sent byte by byte."""

import json
import socket
import time
from contextlib import suppress

import httpx
import pytest

EVENT = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
TRAIN = {"action": "START_TRAINING", "project": {"id": 1}}
SLOW = 40  # five times as many clients as there are threads


def chunks(content):
    return (content[at : at + 2**16] for at in range(0, len(content), 2**16))


@pytest.fixture
def post(installation):
    def send(content, **options):
        headers = {"Content-Type": "application/json"}
        return httpx.post(
            f"{installation.url}/webhook",
            content=content,
            auth=installation.auth,
            headers=headers,
            timeout=30,
            **options,
        )

    return send


def test_a_forged_webhook_only_asks_for_a_look(http):
    """What it says of annotations is not believed: the job reads them from Label Studio."""
    jobs = http.application.extensions["biosegment"].jobs
    forged = EVENT | {"annotation": {"id": 1, "result": ["mine"]}, "model_version": "mine"}
    job_id = http.post("/webhook", json=forged).json["job"]
    assert jobs.job(job_id).args == [1, False]


def test_a_replayed_webhook_changes_nothing(http):
    jobs = http.application.extensions["biosegment"].jobs
    for _ in range(50):
        assert http.post("/webhook", json=EVENT).status_code == 201
        assert http.post("/webhook", json=TRAIN).status_code == 201
    assert len(jobs.queue.job_ids) == 2


def test_an_oversized_body_is_refused(post):
    assert post(b" " * 9 * 2**20).status_code == 413


def test_of_a_chunked_body_no_more_is_read_than_may_be(post):
    body = json.dumps(TRAIN | {"padding": "x" * 20 * 2**20}).encode()
    answer = post(chunks(body))
    assert answer.status_code in {400, 413}
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("body", [b"[" * 10**6, b'{"project":' * 10**5, b'{"a":[' * 10**5])
def test_a_deeply_nested_body_is_no_json(installation, post, body):
    answer = post(body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "The request cannot be used: it needs a JSON object."
    assert "RecursionError" not in installation.log("backend")


@pytest.mark.parametrize(
    "body", [b'{"action": "START_TRAINING", "project": NaN}', b'{"project": 1e999}', b"9" * 10**5]
)
def test_numbers_that_are_none_name_no_project(installation, post, body):
    answer = post(body)
    assert answer.status_code in {200, 400}
    assert "job" not in answer.json()


def slow_clients(port, begun):
    clients = []
    for _ in range(SLOW):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(begun)
        clients.append(client)
    return clients


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST",
        b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["silent", "a word", "headers", "body", "answered"],
)
def test_slow_clients_keep_nobody_waiting(installation, begun):
    """They hold more connections than there are threads, and none knows the credentials."""
    clients = slow_clients(installation.port, begun)
    try:
        for _ in range(3):
            assert httpx.get(f"{installation.url}/health", timeout=10).is_success
    finally:
        for client in clients:
            client.close()


def test_an_unfinished_request_is_ended(installation):
    with socket.create_connection(("127.0.0.1", installation.port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with suppress(ConnectionResetError):
            assert client.recv(1000) == b""


def test_a_request_in_pieces_is_answered(installation):
    with socket.create_connection(("127.0.0.1", installation.port), timeout=60) as client:
        for piece in (b"GET /hea", b"lth HTTP/1.1\r\nHo", b"st: localhost\r\n\r", b"\n"):
            client.sendall(piece)
            time.sleep(0.05)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.stack
def test_the_stack_starts_its_backend_so(stack):
    assert stack.pids("python:ml_backend.http_server")
