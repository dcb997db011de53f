"""The server of docker-compose.yml: as it is written, and as processes without containers."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILES = ("gpu", "dask", "tensorboard")


def _client():
    """Return the command of Docker's compose, version 2 or the one that Debian has."""
    if shutil.which("docker"):
        version = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if version.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"]


def compose_config(env_file, **environ):
    """Return the finished process that resolves docker-compose.yml with the variables of a file."""
    profiles = [word for name in PROFILES for word in ("--profile", name)]
    files = ["--env-file", str(env_file), "--project-directory", str(ROOT)]
    return subprocess.run(
        [*_client(), *profiles, *files, "-f", str(ROOT / "docker-compose.yml"), "config"],
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def secrets(*arguments, folder, **environ):
    """Return the finished process of deploy/secrets.sh."""
    return subprocess.run(
        ["sh", str(ROOT / "deploy" / "secrets.sh"), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def unescaped(value):
    """Return what a container gets of a value in resolved form: there, $$ is one $."""
    if isinstance(value, dict):
        return {key: unescaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unescaped(each) for each in value]
    return value.replace("$$", "$") if isinstance(value, str) else value


def mount(volume):
    """Return where a volume is mounted, and its source and mode; clients write it in two ways."""
    if isinstance(volume, dict):
        mode = "ro" if volume.get("read_only") else "rw"
        return volume["target"], (volume["source"], mode)
    source, place, mode = volume.split(":")
    return place, (source, mode)


@pytest.fixture(scope="session")
def env_file(tmp_path_factory):
    """A fresh .env, with what an administrator may add."""
    folder = tmp_path_factory.mktemp("server")
    done = secrets("make", "localhost", "expert@example.org", folder=folder)
    assert done.returncode == 0, done.stderr
    path = folder / ".env"
    text = path.read_text().replace("SITE_TLS=expert@example.org", "SITE_TLS=internal")
    more = "BIOSEGMENT_RETRAIN_EVERY=3\nBIOSEGMENT_TRAINING_EFFORT=0.1\nLABEL_STUDIO_PROCESSES=1\n"
    path.write_text(text + more)
    return path


@pytest.fixture(scope="session")
def compose(env_file):
    """docker-compose.yml with all profiles, resolved."""
    done = compose_config(env_file)
    assert done.returncode == 0, done.stderr
    config = unescaped(yaml.safe_load(done.stdout))
    for service in config["services"].values():
        service["volumes"] = dict(map(mount, service.get("volumes", [])))
    return config


@pytest.fixture(scope="session", name="compose_config")
def compose_config_fixture():
    return compose_config


@pytest.fixture(scope="session", name="secrets")
def secrets_fixture():
    return secrets


@pytest.fixture(scope="session")
def new_port():
    """Return a function that gives a port on which nothing listens."""

    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return free_port
