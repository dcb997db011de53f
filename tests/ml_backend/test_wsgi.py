"""How the backend starts under gunicorn."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("variable", "value"), [("BASIC_AUTH_USER", "nobody"), ("REDIS_URL", "localhost:6379")]
)
def test_a_backend_with_an_unusable_setting_ends_with_a_sentence(variable, value):
    command = "-m gunicorn --config python:ml_backend.http_server ml_backend.wsgi:app"
    done = subprocess.run(
        [sys.executable, *command.split(), "--bind", "127.0.0.1:0"],
        env=os.environ | {variable: value},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode
    assert f"Error: The setting {variable} " in done.stderr
    assert "Traceback" not in done.stderr
