"""A worker on a machine that shares no folder and reaches no more than it needs trains for all."""

import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import boto3
import httpx
import numpy as np
import pytest
import tifffile
from moto.server import ThreadedMotoServer

from biosegment.labelstudio.connection import authorization_header
from biosegment.stack import _sockets
from biosegment.store import volume_names
from ml_backend.model_registry import ModelRegistry

pytestmark = pytest.mark.stack

STORAGE = "s3://models"

# A process in another network sees this one's sockets that are files, and nothing else of it.
RELAY = '''
"""Hand on connections: LISTEN=TARGET …, each a port or a file; then run what stands behind --."""
import asyncio, fcntl, signal, socket, struct, sys

split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
pairs, command = [pair.split("=") for pair in sys.argv[1:split]], sys.argv[split + 1:]

def place(text):
    return {"host": "127.0.0.1", "port": int(text)} if text.isdecimal() else {"path": text}

async def copy(reader, writer):
    try:
        while part := await reader.read(2**16):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

def opened(target):
    async def on_connection(reader, writer):
        connect = asyncio.open_connection if target.isdecimal() else asyncio.open_unix_connection
        back, forth = await connect(**place(target))
        await asyncio.gather(copy(reader, forth), copy(back, writer))
    return on_connection

async def main():
    for listen, target in pairs:
        start = asyncio.start_server if listen.isdecimal() else asyncio.start_unix_server
        await start(opened(target), **place(listen))
    print("ready", flush=True)
    if command:
        process = await asyncio.create_subprocess_exec(*command)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.terminate)
        sys.exit(await process.wait())
    await asyncio.Event().wait()

if command:
    with socket.socket() as any_socket:  # the loopback interface of a new network is down
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
asyncio.run(main())
'''
NEW_NETWORK = ["unshare", "--user", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server that speaks S3, which all of this test's processes know."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "known-to-nobody")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("BIOSEGMENT_MODEL_STORAGE", STORAGE)
        boto3.client("s3").create_bucket(Bucket="models")
        yield port
    server.stop()


@pytest.fixture(scope="module")
def server(stack, bucket, wait_until):
    """The stack, whose own worker is stopped, and the address of a backend that shares models."""
    supervisor = f"unix://{_sockets(stack.data_root)}/supervisor.sock"
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-s", supervisor]
    subprocess.run([*control, "stop", "worker"], check=True)
    port = free_port()
    command = "-m gunicorn --config python:ml_backend.http_server ml_backend.wsgi:app --bind"
    process = subprocess.Popen(
        [sys.executable, *command.split(), f"127.0.0.1:{port}"],
        env=os.environ | stack.settings.environment() | {"BIOSEGMENT_MODEL_STORAGE": STORAGE},
    )
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(url), 120, "the backend answers")
    yield stack, url
    process.terminate()
    process.wait()
    subprocess.run([*control, "start", "worker"], check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def far_worker(stack, bucket, tmp_path_factory):
    """Start a worker with an empty data root, in a network of its own where the system allows it.

    Only Redis, Label Studio and the bucket are handed on into that network.
    """
    folder = tmp_path_factory.mktemp("far")
    (folder / "relay.py").write_text(RELAY)
    redis = urlsplit(stack.settings.redis_url).path
    reached = {
        "redis": ("6379", redis),
        "label-studio": (str(stack.port), str(stack.port)),
        "s3": (str(bucket), str(bucket)),
    }
    outside = [f"{folder / name}={target}" for name, (_, target) in reached.items()]
    inside = [f"{port}={folder / name}" for name, (port, _) in reached.items()]
    environment = os.environ | stack.settings.environment()
    environment |= far_settings(folder / "data") | {"PYTHONPATH": os.getcwd()}
    del environment["BIOSEGMENT_LABEL_STUDIO_TILES"]
    worker = [sys.executable, "-m", "ml_backend.worker"]
    started = []

    def run(command):
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    def start():
        isolated = subprocess.run([*NEW_NETWORK, "true"], check=False).returncode == 0
        if isolated:
            environment["REDIS_URL"] = "redis://127.0.0.1:6379/0"
            relay = [sys.executable, str(folder / "relay.py")]
            assert run([*relay, *outside]).stdout.readline() == "ready\n"
            assert run([*NEW_NETWORK, *relay, *inside, "--", *worker]).stdout.readline()
        else:
            run(worker)
        return folder / "data"

    yield start
    for process in reversed(started):
        process.terminate()
        process.wait()
        process.stdout.close()


def far_settings(data):
    return {"BIOSEGMENT_DATA": str(data), "BIOSEGMENT_MODEL_STORAGE": STORAGE}


def predicted_by(server, project, task):
    """Return the queue that the backend predicts a task by."""
    stack, url = server
    body = {"tasks": [task], "project": f"{project['id']}.1", "params": {}}
    answer = httpx.post(
        f"{url}/predict",
        json=body | {"label_config": project["label_config"]},
        headers=authorization_header(stack.settings),
        timeout=60,
    )
    return answer.json()["results"][0]["model_version"]


@pytest.mark.timeout(900)
def test_a_worker_without_a_shared_folder(server, stack, far_worker, wait_until, tmp_path):
    truth = np.zeros((2, 128, 128), np.uint8)
    truth[:, 20:60, 30:100] = 1
    noise = np.random.default_rng(0).normal(150, 15, truth.shape) - 70.0 * truth
    path = tmp_path / "far-bars.tif"
    tifffile.imwrite(path, noise.clip(0, 255).astype(np.uint8), photometric="minisblack")
    done = stack.cli("import", str(path), "--project", "Far", "--labels", "bar", "--tile", "64")
    assert done.returncode == 0, done.stderr
    project = stack.client.find_project("Far")
    stack.annotate(project, truth, 3)
    data = far_worker()

    def queue():
        return stack.client.project(project["id"])["model_version"]

    before = queue()
    first = wait_until(lambda: queue() not in ("", before) and queue(), 300, "a version serves")
    version = first.partition(" ")[0]
    assert ModelRegistry(data).current(project["id"]) == version
    assert volume_names(data) == []
    # What it looked at it has from Label Studio: eight tiles.
    assert len(list((data / "cache" / "images").iterdir())) == 8
    # The backend has the version, too, and predicts by it.
    task = stack.client.next_task(project["id"])
    assert predicted_by(server, project, task) == first
    here = stack.data_root / "models" / str(project["id"])
    assert (here / "current").read_text() == version
    listed = stack.cli("models", "Far")
    assert version in listed.stdout, listed.stderr
    found = stack.cli("doctor", **stack.settings.environment() | far_settings(data)).stdout
    assert "Tiles are not in the data folder, but read through Label Studio." in found
    assert f"Projects with models in the storage {STORAGE}: 1." in found
    # What is learned next starts from it.
    stack.annotate(project, truth, 3)
    second = wait_until(lambda: queue() != first and queue(), 300, "a second one serves")
    card = ModelRegistry(data).card(project["id"], second.partition(" ")[0])
    assert card.parent == version
    wait_until(lambda: predicted_by(server, project, task) == second, 30, "the backend has it")
