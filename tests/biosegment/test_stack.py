import os
import shlex
import socket
import stat
import subprocess
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from torch.utils.tensorboard import SummaryWriter

from biosegment.errors import PortInUseError
from biosegment.settings import Settings
from biosegment.stack import CONNECTION, announce, connection, prepare
from biosegment.supervisor import commands_of, environment_of, redis_server
from tests.conftest import free_port


@pytest.fixture
def data_root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def ports():
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def local(data_root, ports, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    stack = prepare(Settings(data_root=data_root), *ports)
    announce(stack)
    return stack


def test_secrets_are_made_once(local, data_root, ports):
    again = prepare(Settings(data_root=data_root), *ports)
    assert again == local
    assert again.password == local.password
    other = prepare(Settings(data_root=data_root / "other"), *ports)
    assert other.password != local.password
    assert other.settings.label_studio_api_key != local.settings.label_studio_api_key
    assert other.settings.redis_url != local.settings.redis_url


def test_secrets_are_for_the_user_only(local):
    files = [path for path in local.folder.iterdir() if path.is_file()]
    assert {"secrets.env", CONNECTION} == {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert local.password not in repr(local.settings)
    assert local.settings.basic_auth_pass not in repr(local.settings)


def test_the_backend_of_a_local_stack_asks_for_a_password(local):
    assert local.settings.basic_auth_user
    assert len(local.settings.basic_auth_pass) >= 20


def test_tensorboard_listens_here_if_it_is_asked_for(local, data_root, ports, wait_until):
    assert "tensorboard" not in commands_of(local)
    with SummaryWriter(data_root / "logs" / "3" / "0001-20261122T101530") as writer:
        writer.add_scalar("loss", 1.0, 0)
    stack = prepare(Settings(data_root=data_root), *ports, free_port())
    url = f"http://127.0.0.1:{stack.tensorboard_port}/data/runs"
    process = subprocess.Popen(commands_of(stack)["tensorboard"], stderr=subprocess.DEVNULL)

    def runs():
        try:
            return httpx.get(url).json()
        except httpx.TransportError:
            return None

    try:
        wait_until(lambda: runs() == ["3/0001-20261122T101530"], 120, "TensorBoard has the run")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(("position", "option"), [(0, "--port"), (1, "--backend-port")])
def test_a_port_in_use_is_said_before_anything_is_written(data_root, ports, position, option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[position]))
        taken.listen()
        with pytest.raises(PortInUseError, match=f"Port {ports[position]} is in use.*{option}"):
            prepare(Settings(data_root=data_root), *ports)
    assert not data_root.exists()


def test_one_port_cannot_serve_both(data_root, ports):
    with pytest.raises(PortInUseError, match="--backend-port"):
        prepare(Settings(data_root=data_root), ports[0], ports[0])
    with pytest.raises(PortInUseError, match="--tensorboard"):
        prepare(Settings(data_root=data_root), *ports, ports[1])


def test_other_commands_find_the_stack_by_its_data_folder(local, data_root):
    found = Settings.from_env(connection({"BIOSEGMENT_DATA": str(data_root)}))
    assert found == local.settings


@pytest.mark.parametrize(
    "given", [{"LABEL_STUDIO_URL": "http://label.example"}, {"LABEL_STUDIO_API_KEY": "abc"}]
)
def test_a_label_studio_that_is_named_comes_before_the_local_stack(local, data_root, given):
    environ = {"BIOSEGMENT_DATA": str(data_root)} | given
    assert connection(environ) == environ


def test_other_variables_come_before_those_of_the_stack(local, data_root):
    environ = {"BIOSEGMENT_DATA": str(data_root), "BIOSEGMENT_STRATEGY": "random"}
    found = Settings.from_env(connection(environ | {"LABEL_STUDIO_URL": "", "REDIS_URL": ""}))
    assert found.loop.strategy == "random"
    assert found.label_studio_url == local.settings.label_studio_url
    assert found.redis_url == local.settings.redis_url


def test_without_a_stack_the_environment_is_left_as_it_is(tmp_path):
    environ = {"BIOSEGMENT_DATA": str(tmp_path / "nowhere")}
    assert connection(environ) == environ


def test_a_redis_of_the_user_is_taken(data_root, ports, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/2")
    environ = {**os.environ, "BIOSEGMENT_DATA": str(data_root)}
    local = prepare(Settings.from_env(environ), *ports)
    assert local.settings.redis_url == "redis://elsewhere:6379/2"
    assert "redis" not in commands_of(local)


def test_a_redis_of_the_user_may_be_named_in_a_file(data_root, ports, monkeypatch, tmp_path):
    (tmp_path / "redis").write_text("redis://elsewhere:6379/2")
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "redis"))
    monkeypatch.setenv("REDIS_PASSWORD", "of-elsewhere")
    local = prepare(Settings.from_env({**os.environ, "BIOSEGMENT_DATA": str(data_root)}), *ports)
    assert local.settings.redis_url == "redis://:of-elsewhere@elsewhere:6379/2"
    assert "redis" not in commands_of(local)


def test_a_password_for_another_redis_is_not_told_to_that_of_the_stack(
    data_root, ports, monkeypatch, wait_until
):
    environ = {**os.environ, "BIOSEGMENT_DATA": str(data_root), "REDIS_PASSWORD": "of-another"}
    environ.pop("REDIS_URL", None)
    monkeypatch.delenv("REDIS_URL", raising=False)
    local = prepare(Settings.from_env(environ), *ports)
    announce(local)
    local.sockets.mkdir(exist_ok=True)
    redis = subprocess.Popen(commands_of(local)["redis"], stdout=subprocess.DEVNULL)

    def answers(environ):
        try:
            with Redis.from_url(Settings.from_env(environ).redis_url) as found:
                return found.ping()
        except RedisConnectionError:
            return False

    try:
        wait_until(lambda: answers(environ | environment_of(local)), 30, "Redis answers")
        assert answers(connection(environ))
    finally:
        redis.terminate()
        redis.wait(30)


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nowhere"])
def test_a_redis_server_is_there_with_or_without_the_systems(monkeypatch, path):
    monkeypatch.setenv("PATH", path)
    command = shlex.split(shlex.join([redis_server(), "--version"]))
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Redis server" in said.stdout


def test_the_socket_of_redis_has_room_in_a_deep_folder(tmp_path, ports, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)
    local = prepare(Settings(data_root=deep), *ports)
    assert len(local.settings.redis_url.removeprefix("unix://")) < 100


@pytest.fixture
def known_secrets(stack):
    lines = (stack.data_root / "stack" / "secrets.env").read_text().splitlines()
    return [line.split("=", 1)[1] for line in lines]


@pytest.mark.stack
def test_no_secret_is_in_a_command_line(stack, known_secrets):
    commands = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in stack.pids(""))
    for program in ("label-studio", "gunicorn", "ml_backend.worker"):
        assert program in commands
    assert not [secret for secret in known_secrets if secret in commands]


@pytest.mark.stack
def test_secrets_lie_in_private_files_only(stack, known_secrets):
    for path in (stack.data_root / "stack").iterdir():
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in known_secrets):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (stack.data_root / "stack" / "logs").iterdir():
        assert not [secret for secret in known_secrets if secret in path.read_text()], path


@pytest.mark.stack
def test_the_stack_listens_on_this_machine_only(stack):
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    for port in (stack.port, stack.backend_port):
        (address,) = {at for at in listening if int(at.split(":")[1], 16) == port}
        assert address.startswith("0100007F:")
