"""What the logs of a process look like, in a process of its own."""

import json
import subprocess
import sys

SCRIPT = """
import logging, warnings
from biosegment.log import configure_logging, set_ids
configure_logging("INFO", "{log_format}")
logger = logging.getLogger("ml_backend.loop")
logger.info("no ids: %d", 1)
set_ids(project=3, job="turn-3-abc")
logger.warning("first line\\nsecond line, ü")
logging.getLogger("somebody.else").info("a library's chatter")
logging.getLogger("gunicorn.error").error("of the server")
set_ids(project=None)
try:
    raise ValueError("wrong")
except ValueError:
    logger.exception("failed")
warnings.warn("beware")
raise KeyError("uncaught")
"""


def logged(log_format):
    script = SCRIPT.format(log_format=log_format)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_text_for_people():
    lines = logged("text")
    assert lines[0].endswith(" INFO ml_backend.loop: no ids: 1")
    assert lines[1].endswith(" WARNING ml_backend.loop [project=3 job=turn-3-abc]: first line")
    assert lines[3].endswith(" ERROR gunicorn.error [project=3 job=turn-3-abc]: of the server")
    assert lines[4].endswith(" ERROR ml_backend.loop: failed")
    assert lines[5].startswith("Traceback")


def test_every_line_is_an_object():
    lines = [json.loads(line) for line in logged("json")]
    plain, with_ids, server, failed, warned, uncaught = lines
    assert plain.pop("time").endswith("+00:00")
    assert plain == {"level": "INFO", "logger": "ml_backend.loop", "message": "no ids: 1"}
    assert with_ids["message"] == "first line\nsecond line, ü"
    assert with_ids["level"] == "WARNING"
    assert (with_ids["project"], with_ids["job"]) == (3, "turn-3-abc")
    assert server["logger"] == "gunicorn.error"
    assert "project" not in failed
    assert failed["message"] == "failed"
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: wrong")
    assert "beware" in warned["message"]
    assert uncaught["level"] == "CRITICAL"
    assert uncaught["exception"].endswith("KeyError: 'uncaught'")
