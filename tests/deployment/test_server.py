"""The processes of docker-compose.yml without containers, with its commands and environments.

PostgreSQL, Redis and Caddy come from Debian. Host names, ports and folders are mapped to this
machine's; Docker itself is a script that carries out commands "in" a service.
"""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import tifffile
from redis import Redis
from redis.exceptions import AuthenticationError

from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import annotation_regions, tile_of
from biosegment.settings import Settings
from importers.samples import write_synthetic
from ml_backend.model_registry import ModelRegistry

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TITLE = "A server"
SERVICES = ("postgres", "redis", "label-studio", "backend", "worker", "proxy")
HOSTS = "label-studio|redis|backend.internal|tensorboard"
PORTS = (80, 443, 2019, 5432, 6006, 6379, 8080, 9090, 9443)
MAY_MOUNT = os.getuid() == 0 and (
    subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0
)
DOCKER = """#!{python}
# Carries out `docker compose exec` and `run` in the services of this test.
import json, os, re, sys
services = json.load(open({plan!r}))
docker = ("compose", "exec", "run", "--rm", "--no-deps", "-T")
words = [each for each in sys.argv[1:] if each not in docker]
service = services[words[0]]
command = words[1:]
for found, place in service["places"]:
    command = [re.sub(found, place, each) for each in command]
os.execvpe(command[0], command, service["environment"])
"""


def postgres_programs():
    """Return the folder of PostgreSQL's programs, the newest that Debian has installed."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class Server:
    """The services of docker-compose.yml as processes on this machine."""

    def __init__(self, services, folder, env_file, new_port):
        self.folder = folder
        self.processes = {}
        self._services = services
        self._ports = {port: new_port() for port in PORTS}
        self._programs = folder / "bin"
        self._programs.mkdir()
        shutil.copy(env_file, folder / ".env")
        for name in ("volumes", "logs"):
            (folder / name).mkdir()
        self.proxy_configuration()
        self._redirect_docker()

    def port(self, port):
        return self._ports[port]

    def volume(self, name):
        return self.folder / "volumes" / name

    def make_volumes(self):
        """Make the folders that Docker would make, and fill PostgreSQL's as its image does."""
        for name in ("postgres", "redis", "label-studio", "data", "caddy"):
            self.volume(name).mkdir()
        environment = self.environment("postgres")
        if os.getuid() == 0:
            shutil.chown(self.volume("postgres"), "postgres", "postgres")
        password = self.folder / "volumes" / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        password.chmod(0o644)
        options = f"--username={environment['POSTGRES_USER']} --pwfile={password} --no-sync"
        options += " --encoding=UTF8 --locale=C.UTF-8"
        access = "--auth-local=trust --auth-host=scram-sha-256"
        subprocess.run(
            [postgres_programs() / "initdb", *options.split(), *access.split()],
            env=environment,
            check=True,
            capture_output=True,
            **self._user("postgres"),
        )
        password.unlink()
        with (self.volume("postgres") / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.volume('postgres')}'\n")
            # What only a power failure would need.
            file.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")

    def start(self, *names):
        """Start services as docker compose does: one after the other is healthy."""
        for name in names:
            with (self.folder / "logs" / f"{name}.log").open("a") as log:
                self.processes[name] = subprocess.Popen(
                    self._confined(name, self._local(name, self._services[name]["command"])),
                    env=self.environment(name),
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **self._user(name),
                )
            self._wait_until_healthy(name)
            if name == "postgres" and not self._has_database():
                self.docker("postgres", "createdb", "--username=labelstudio", "labelstudio")

    def _wait_until_healthy(self, name):
        deadline = time.monotonic() + 240
        while not self.is_healthy(name):
            assert time.monotonic() < deadline, self.log(name)[-3000:]
            # Each check is a process, which takes time from the one that starts.
            time.sleep(1)

    def is_healthy(self, name):
        """Carry out a service's own health check."""
        assert self.processes[name].poll() is None, self.log(name)[-1000:]
        kind, *test = self._services[name]["healthcheck"]["test"]
        command = ["sh", "-c", *test] if kind == "CMD-SHELL" else test
        done = subprocess.run(
            self._local(name, command), env=self.environment(name), capture_output=True, check=False
        )
        return done.returncode == 0

    def stop(self):
        """Stop everything, what depends on others before these, and kill what does not."""
        while self.processes:
            name, process = self.processes.popitem()
            # PostgreSQL would wait for others to leave.
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def docker(self, service, *command):
        """Run a command in a service."""
        return self.script("docker", "compose", "exec", "-T", service, *command)

    def script(self, *command):
        path = f"{self._programs}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    def log(self, name):
        return (self.folder / "logs" / f"{name}.log").read_text()

    def environment(self, name):
        """Return what a service finds in its environment, on this machine."""
        own = self._services[name].get("environment") or {}
        programs = [self._programs, Path(sys.executable).parent, postgres_programs()]
        return {
            "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
            "HOME": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            # Label Studio notes what git tells about its folder, there; an image has no git.
            "GIT_CEILING_DIRECTORIES": str(ROOT),
            "PGDATA": str(self.volume("postgres")),
            "PGPORT": str(self._ports[5432]),
            "PGHOST": str(self.volume("postgres")),
        } | {
            key: re.sub("^postgres$", "127.0.0.1", text)
            for key, text in zip(
                own, self._local(name, [each or "" for each in own.values()]), strict=True
            )
        }

    def client(self):
        """Return what speaks to its Label Studio, past the proxy."""
        return LabelStudioClient(Settings.from_env(self.environment("worker")))

    def proxy_configuration(self):
        """Write Caddy's configuration for this machine's ports; return its place."""
        [text] = self._local("proxy", [(ROOT / "deploy" / "Caddyfile").read_text()])
        ports = f"http_port {self._ports[80]}\n\thttps_port {self._ports[443]}"
        path = self.folder / "Caddyfile"
        path.write_text(text.replace("admin off", f"admin off\n\t{ports}"))
        return path

    def _places(self, name):
        """Return patterns, each with what stands on this machine for it."""
        folders = {"/opt/venv": sys.prefix}
        for place, (source, _) in self._services[name]["volumes"].items():
            # A name, or else the path of a file.
            folders[place] = str(self.volume(source))
        if name == "proxy":
            folders["/etc/caddy/Caddyfile"] = str(self.folder / "Caddyfile")
        return [
            *(
                (rf"(?<![\w/.]){re.escape(place)}(?![\w-])", local)
                for place, local in folders.items()
            ),
            (rf"\b({HOSTS}):(?=\d)", "127.0.0.1:"),
            (r"\b0\.0\.0\.0:", "127.0.0.1:"),
            *((rf"(?<=[:\s]){port}\b|^{port}$", str(local)) for port, local in self._ports.items()),
        ]

    def _local(self, name, texts):
        for found, place in self._places(name):
            texts = [re.sub(found, place, each) for each in texts]
        return texts

    def _confined(self, name, command):
        """Return a command that sees a root file system as its container does, if that may be made.

        PostgreSQL and Redis are spared, whose images are made for it.
        """
        if not MAY_MOUNT or name in {"postgres", "redis"}:
            return command
        mounted = [tempfile.gettempdir()]
        read_only = ["/"]
        for source, mode in self._services[name]["volumes"].values():
            if mode == "ro":
                mounted.append(str(self.volume(source)))
                read_only.append(mounted[-1])
        steps = [f"mount --bind {place} {place}" for place in mounted]
        steps += [f"mount -o remount,ro,bind {place}" for place in read_only]
        return [
            "unshare",
            "--mount",
            "sh",
            "-c",
            " && ".join([*steps, 'exec "$@"']),
            "sh",
            *command,
        ]

    def _user(self, name):
        return (
            {"user": "postgres", "group": "postgres"}
            if name == "postgres" and os.getuid() == 0
            else {}
        )

    def _has_database(self):
        return self.docker("postgres", "psql", "--username=labelstudio", "-c", "").returncode == 0

    def _redirect_docker(self):
        plan = self.folder / "plan.json"
        plan.write_text(
            json.dumps(
                {
                    name: {"environment": self.environment(name), "places": self._places(name)}
                    for name in self._services
                }
            )
        )
        docker = self._programs / "docker"
        docker.write_text(DOCKER.format(python=sys.executable, plan=str(plan)))
        docker.chmod(0o755)


@pytest.fixture(scope="module")
def server(compose, env_file, new_port):
    with tempfile.TemporaryDirectory(prefix="biosegment-server-") as folder:
        # PostgreSQL's user has to get in.
        Path(folder).chmod(0o755)
        server = Server(compose["services"], Path(folder), env_file, new_port)
        server.make_volumes()
        try:
            server.start(*SERVICES)
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("sample"), (4, 256, 256))


@pytest.fixture(scope="module")
def project(server, sample):
    labels = ["--labels", "mitochondria", "--tile", "64"]
    done = server.docker(
        "worker", "biosegment", "import", str(sample.raw), "--project", TITLE, *labels
    )
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        return client.find_project(TITLE)


def annotate(server, project, sample, count):
    """Let ground truth be the expert for the next tasks; return the numbers of the annotations."""
    truth = tifffile.imread(sample.labels)
    label_map = LabelMap.from_config(project["label_config"])
    made = []
    with server.client() as client:
        for _ in range(count):
            task = client.next_task(project["id"])
            regions = annotation_regions([truth[tile_of(task).roi.slices][0]], label_map)
            made.append(client.annotate(task["id"], regions, 1.0)["id"])
    return made


def annotations(server, project):
    with server.client() as client:
        tasks = client.annotated_tasks(project["id"])
    return {each["id"]: each["result"] for task in tasks for each in task["annotations"]}


@pytest.fixture
def visitor(server):
    """A browser, so to speak: it comes through the proxy and believes its certificates only."""
    root = server.volume("caddy") / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    trusted = ssl.create_default_context(cafile=str(root))
    with httpx.Client(verify=trusted, follow_redirects=True, timeout=30) as client:
        yield client


def test_an_expert_logs_in_through_the_proxy_and_sees_tiles(server, project, visitor):
    site = f"https://localhost:{server.port(443)}"
    login = f"{site}/user/login/"
    known = server.environment("label-studio")
    with server.client() as client:
        tile = client.next_task(project["id"])["data"]["image"]
    assert visitor.get(f"{site}{tile}").status_code == 401
    visitor.get(login)
    form = {
        "email": known["LABEL_STUDIO_USERNAME"],
        "password": known["LABEL_STUDIO_PASSWORD"],
        "csrfmiddlewaretoken": visitor.cookies["csrftoken"],
    }
    # A browser says where the form was.
    answer = visitor.post(login, data=form, headers={"Origin": site, "Referer": login})
    assert answer.status_code == 200
    assert "login" not in str(answer.url)
    assert all(cookie.secure for cookie in visitor.cookies.jar)
    image = visitor.get(f"{site}{tile}")
    assert image.headers["content-type"] == "image/png"
    assert image.headers["strict-transport-security"]


def test_the_status_page_and_tensorboard_ask_for_the_password(server, project, visitor):
    status = f"https://localhost:{server.port(9443)}"
    known = server.environment("backend")
    credentials = (known["BASIC_AUTH_USER"], known["BASIC_AUTH_PASS"])
    for page in ("/", "/tensorboard/"):
        answer = visitor.get(f"{status}{page}")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
    text = visitor.get(f"{status}/", auth=credentials).text
    assert TITLE in text
    # Its links lead where a browser gets, not to where the backend finds Label Studio.
    site = server.environment("label-studio")["LABEL_STUDIO_HOST"]
    assert f'href="{site}/projects/{project["id"]}/data"' in text
    # It does not run here: the proxy let the request pass.
    assert visitor.get(f"{status}/tensorboard/", auth=credentials).status_code == 502


def test_redis_asks_for_its_password_and_keeps_what_it_was_told(server):
    with Redis.from_url(Settings.from_env(server.environment("backend")).redis_url) as redis:
        assert redis.config_get("appendonly") == {"appendonly": "yes"}
        with pytest.raises(AuthenticationError):
            Redis(port=server.port(6379)).ping()


def test_the_doctor_finds_nothing(server, project):
    done = server.docker("worker", "biosegment", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_worker_with_another_password_of_redis_says_so(server, password):
    done = subprocess.run(
        [sys.executable, "-m", "ml_backend.worker"],
        env=server.environment("worker") | {"REDIS_PASSWORD": password},
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert "set REDIS_PASSWORD to the one that Redis was started with" in sentence


def test_an_expert_works_and_goes_on_after_everything_was_lost(
    server, project, sample, wait_until, tmp_path
):
    registry = ModelRegistry(server.volume("data"))
    annotate(server, project, sample, 3)
    first = wait_until(lambda: registry.current(project["id"]), 120, "a version is there")
    with server.client() as client:
        wait_until(
            lambda: client.project(project["id"])["model_version"].startswith(first),
            60,
            "it orders the queue",
        )
    before = annotations(server, project)
    assert len(before) == 3

    done = server.script("sh", str(ROOT / "deploy" / "backup.sh"), str(tmp_path / "backup"))
    assert done.returncode == 0, done.stderr
    refused = server.script("sh", str(ROOT / "deploy" / "restore.sh"), str(tmp_path / "backup"))
    assert refused.returncode == 1
    assert "This server holds data, and nothing was overwritten" in refused.stderr

    server.stop()
    shutil.rmtree(server.volume(""))
    server.volume("").mkdir()
    server.make_volumes()
    server.start("postgres")
    done = server.script("sh", str(ROOT / "deploy" / "restore.sh"), str(tmp_path / "backup"))
    assert done.returncode == 0, done.stderr
    server.start(*SERVICES[1:])

    assert annotations(server, project) == before
    assert registry.current(project["id"]) == first
    further = annotate(server, project, sample, 3)
    second = wait_until(
        lambda: registry.current(project["id"]) != first and registry.current(project["id"]),
        120,
        "the next version is there",
    )
    card = registry.card(project["id"], second)
    assert card.parent == first
    assert set(card.annotations) == {str(each) for each in [*before, *further]}
