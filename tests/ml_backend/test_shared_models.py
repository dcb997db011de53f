"""Two machines without a shared folder, which exchange models through a folder or a bucket."""

import os
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer

from biosegment.errors import ModelDamagedError, ModelStorageError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from ml_backend.loop import Loop
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_files import CARD, CURRENT, RANKING, RECIPE, WEIGHTS
from ml_backend.model_registry import ModelRegistry
from ml_backend.model_storage import ModelStorage
from ml_backend.recipe import Recipe
from ml_backend.shared_models import UNTOLD
from ml_backend.training import TrainedModel, TrainingSpec

OURS = Recipe(learning_rate=5e-3, widths=(8, 16), dice_weight=0.5, augmentation=1.5)


class Folder:
    """A storage in a folder, which may be unmounted."""

    def __init__(self, path):
        path.mkdir()
        self._path = path
        self.url = path.as_uri()

    def names(self):
        found = (path.relative_to(self._path) for path in self._path.rglob("*") if path.is_file())
        return sorted(str(path) for path in found)

    def read(self, name):
        return (self._path / name).read_bytes()

    def write(self, name, content):
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        (self._path / name).write_bytes(content)

    @contextmanager
    def down(self):
        away = self._path.rename(self._path.with_name("away"))
        yield
        away.rename(self._path)


class S3Server:
    """A server of S3 at one port, which keeps what it has while it is stopped."""

    def __init__(self):
        self._server = ThreadedMotoServer(port=0, verbose=False)
        self._server.start()
        host, self._port = self._server.get_host_and_port()
        self.url = f"http://{host}:{self._port}"

    def stop(self):
        self._server.stop()

    def start(self):
        self._server = ThreadedMotoServer(port=self._port, verbose=False)
        self._server.start()


class Bucket:
    """A storage in a bucket."""

    def __init__(self, server, name):
        self._server = server
        self._name = name
        self._client = boto3.client("s3")
        self._client.create_bucket(Bucket=name)
        self.url = f"s3://{name}/some/models"

    def names(self):
        found = self._client.list_objects_v2(Bucket=self._name)["Contents"]
        return sorted(each["Key"].removeprefix("some/models/") for each in found)

    def read(self, name):
        answer = self._client.get_object(Bucket=self._name, Key=f"some/models/{name}")
        return answer["Body"].read()

    def write(self, name, content):
        self._client.put_object(Bucket=self._name, Key=f"some/models/{name}", Body=content)

    @contextmanager
    def down(self):
        self._server.stop()
        yield
        self._server.start()


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory):
    server = S3Server()
    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "known-to-nobody")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
        patch.setenv("AWS_CONFIG_FILE", nowhere)
        yield server
    server.stop()


@pytest.fixture(params=["file", "s3"])
def place(request, tmp_path):
    if request.param == "file":
        return Folder(tmp_path / "storage")
    return Bucket(request.getfixturevalue("s3_server"), f"models-{uuid.uuid4().hex}")


@pytest.fixture
def machine(place, tmp_path):
    """Return a function that starts a process: a registry on the data root of a machine."""
    return lambda name: ModelRegistry(tmp_path / name, ModelStorage(place.url))


def add(registry, seed=0, parent=None):
    """Train a version, so to say, and let it serve."""
    torch.manual_seed(seed)
    network = UNet(UNetSpec(2, widths=(4, 8, 8))).eval()
    card = ModelCard.of(
        TrainedModel(network, TrainingSpec(("background", "cell"), widths=(4, 8, 8)), 10, {}),
        strategy="entropy", annotations={"12": "2026-11-22T10:00:00Z"}, left_out={},
        lead_time_s=41.5, parent=parent,
    )  # fmt: skip
    version = registry.next_version(1)
    registry.save(1, version, network, card)
    registry.promote(1, version)
    return version, network


def same(network, other):
    images = torch.rand(1, 1, 8, 8)
    return torch.equal(network(images), other(images))


def test_every_machine_offers_the_same(machine, place):
    first, _ = add(machine("worker"))
    second, network = add(machine("worker"), seed=1, parent=first)
    machine("worker").set_ranked_by(1, second, "random")
    machine("worker").set_recipe(1, OURS)
    for name in ("worker", "backend", "other"):
        here = machine(name)
        assert here.projects() == [1]
        assert here.current(1) == second
        assert [card.version for card in here.cards(1)] == [first, second]
        assert here.ranked_by(1, second) == "random"
        assert here.recipe(1) == OURS
        assert here.next_version(1).startswith("0003-")
        loaded, card = here.load(1, second)
        assert same(loaded, network)
        assert card == machine("worker").card(1, second)
        assert here.load(1, first)[1].version == first
    assert place.names() == [
        *(f"1/{version}/{name}" for version in (first, second) for name in (CARD, WEIGHTS)),
        *(f"1/{name}" for name in (CURRENT, RANKING, RECIPE)),
    ]


def test_machines_take_turns(machine):
    a, b = machine("a"), machine("b")
    first, _ = add(a)
    b.exchange(1)
    second, network = add(b, seed=1, parent=first)
    a.exchange(1)
    assert a.current(1) == second
    assert same(a.load(1, second)[0], network)
    a.promote(1, first)
    b.exchange(1)
    assert b.current(1) == first
    b.set_recipe(1, OURS)
    b.set_recipe(1, None)
    a.exchange(1)
    assert a.recipe(1) is None


def test_a_promotion_is_seen_within_seconds(machine, wait_until):
    reader, writer = machine("backend"), machine("worker")
    first, _ = add(writer)
    assert reader.current(1) == first
    second, _ = add(writer)
    wait_until(lambda: reader.current(1) == second, 20, "the new version is seen")


def test_only_the_serving_weights_are_fetched_before_they_are_asked_for(machine, tmp_path):
    first, network = add(machine("worker"))
    second, _ = add(machine("worker"), seed=1)
    assert machine("backend").current(1) == second
    folder = tmp_path / "backend" / "models" / "1"
    assert {path.name for path in (folder / first).iterdir()} == {CARD}
    assert {path.name for path in (folder / second).iterdir()} == {CARD, WEIGHTS}
    assert ModelRegistry(tmp_path / "backend").current(1) == second
    assert same(machine("backend").load(1, first)[0], network)
    assert (folder / first / WEIGHTS).exists()


def test_a_storage_that_is_new_is_told_all_there_is(machine, tmp_path):
    alone = ModelRegistry(tmp_path / "server")
    versions = [add(alone, seed)[0] for seed in range(2)]
    alone.set_ranked_by(1, versions[1], "random")
    alone.set_recipe(1, OURS)
    assert machine("server").current(1) == versions[1]
    far = machine("worker")
    assert [card.version for card in far.cards(1)] == versions
    assert (far.current(1), far.ranked_by(1, versions[1])) == (versions[1], "random")
    assert far.recipe(1) == OURS


def test_reading_asks_the_storage_once_for_a_while(place, tmp_path):
    asked = []

    class Counted(ModelStorage):
        def _errors(self):
            asked.append(1)
            return super()._errors()

    add(ModelRegistry(tmp_path / "worker", ModelStorage(place.url)))
    registry = ModelRegistry(tmp_path / "backend", Counted(place.url))
    version = registry.current(1)
    assert len(asked) == 4  # what there is, the card, the weights, what serves
    for _ in range(100):
        registry.load(1, registry.current(1))
        registry.ranked_by(1, version)
        registry.cards(1)
    assert len(asked) == 4
    registry.exchange(1)
    assert len(asked) == 5


@pytest.mark.parametrize("damage", ["cut short", "changed", "not a card"])
def test_nothing_damaged_is_taken(machine, place, caplog, damage):
    first, _ = add(machine("worker"))
    assert machine("backend").current(1) == first
    second, network = add(machine("worker"), seed=1)
    name = f"1/{second}/{CARD if damage == 'not a card' else WEIGHTS}"
    whole = place.read(name)
    broken = {"cut short": whole[:-10], "changed": whole[:-1] + b"~", "not a card": b"{}"}
    place.write(name, broken[damage])
    here = machine("backend")
    assert here.current(1) == first
    assert here.load(1, first)[1].version == first
    assert f"{second}/{name.rpartition('/')[2]} cannot be used" in caplog.text
    if damage != "not a card":
        with pytest.raises(ModelDamagedError, match="checksum"):
            here.load(1, second)
    place.write(name, whole)
    again = machine("backend")
    assert again.current(1) == second
    assert same(again.load(1, second)[0], network)


def test_a_version_that_is_deleted_here_is_fetched_again(machine, tmp_path):
    version, network = add(machine("worker"))
    path = tmp_path / "worker" / "models" / "1" / version / WEIGHTS
    path.write_bytes(b"damaged")
    with pytest.raises(ModelDamagedError):
        machine("worker").load(1, version)
    path.unlink()
    assert same(machine("worker").load(1, version)[0], network)


def test_several_processes_fetch_at_once(machine, tmp_path):
    version, network = add(machine("worker"))
    with ThreadPoolExecutor(8) as pool:

        def read(_):
            here = machine("backend")
            here.exchange(1)
            return here.current(1), here.load(1, version)[0]

        found = list(pool.map(read, range(8)))
    assert [current for current, _ in found] == [version] * 8
    assert all(same(loaded, network) for _, loaded in found)
    folder = tmp_path / "backend" / "models" / "1" / version
    assert {path.name for path in folder.iterdir()} == {CARD, WEIGHTS}


def test_a_storage_that_is_away_loses_nothing(machine, place, caplog):
    first, _ = add(machine("worker"))
    assert machine("backend").current(1) == first
    with place.down():
        worker = machine("worker")
        with pytest.raises(ModelStorageError, match="and follow once it answers") as caught:
            add(worker, seed=1)
        assert worker.current(1) != first
        with pytest.raises(ModelStorageError):
            worker.exchange(1)
        with pytest.raises(ModelStorageError):
            worker.set_recipe(1, OURS)
        backend = machine("backend")
        assert backend.current(1) == first
        assert backend.load(1, first)[1].version == first
        assert [card.version for card in backend.cards(1)] == [first]
    assert "models are used as they are here: The model storage" in caplog.text
    assert "known-to-nobody" not in f"{caught.value}{caplog.text}"
    # The next turn, in a new process.
    machine("worker").exchange(1)
    second = machine("worker").current(1)
    assert second.startswith("0002-")
    assert machine("backend").current(1) == second
    assert machine("backend").load(1, second)[1].version == second
    assert machine("backend").recipe(1) is None


def test_a_version_that_comes_late_does_not_serve_instead_of_a_newer_one(machine, place):
    first, _ = add(machine("a"))
    machine("b").exchange(1)
    with place.down(), pytest.raises(ModelStorageError):
        add(machine("a"), seed=1)
    newer, _ = add(machine("b"), seed=2)
    a = machine("a")
    a.exchange(1)
    assert a.current(1) == newer
    assert machine("c").current(1) == newer
    assert {first, newer} <= {card.version for card in machine("c").cards(1)}


def test_a_damaged_version_is_followed_by_the_next(machine, place):
    first, _ = add(machine("a"))
    assert machine("b").current(1) == first
    damaged, _ = add(machine("a"), seed=1)
    place.write(f"1/{damaged}/{WEIGHTS}", b"")
    b = machine("b")
    b.exchange(1)
    third, _ = add(b, seed=2)
    assert machine("a").current(1) == third
    assert machine("c").current(1) == third


def test_a_turn_fails_before_it_trains_for_nobody(settings, tmp_path):
    """Label Studio, which does not answer, is not even asked."""
    away = (tmp_path / "away").as_uri()
    settings = replace(settings, model_storage=away)
    with LabelStudioClient(settings) as client, pytest.raises(ModelStorageError, match="no such"):
        Loop(settings, client).turn(1, force=True, report=lambda *_: None)


class Killed(BaseException):
    """Stands for the end of the process at a place where nothing is tidied up anyway."""


def stop_writing(monkeypatch, last):
    """Let a process die when it is to write a file whose name ends so."""
    write = ModelStorage.write

    def stop(storage, name, content):
        if name.endswith(last):
            raise Killed
        write(storage, name, content)

    monkeypatch.setattr(ModelStorage, "write", stop)


def test_interrupted_while_it_tells_a_new_storage(machine, tmp_path, monkeypatch):
    alone = ModelRegistry(tmp_path / "server")
    versions = [add(alone, seed)[0] for seed in range(2)]
    alone.set_recipe(1, OURS)
    for last in (f"{versions[0]}/{CARD}", f"{versions[1]}/{WEIGHTS}", CURRENT):
        stop_writing(monkeypatch, last)
        with pytest.raises(Killed):
            machine("server").exchange(1)
        monkeypatch.undo()
    machine("server").exchange(1)
    far = machine("worker")
    assert [card.version for card in far.cards(1)] == versions
    assert (far.current(1), far.recipe(1)) == (versions[1], OURS)


@pytest.mark.parametrize("last", [WEIGHTS, CARD, CURRENT])
def test_interrupted_while_it_publishes(machine, place, tmp_path, monkeypatch, last):
    first, _ = add(machine("worker"))
    stop_writing(monkeypatch, last)
    with pytest.raises(Killed):
        add(machine("worker"), seed=1)
    monkeypatch.undo()
    backend = machine("backend")
    assert backend.current(1) == first
    assert all(backend.load(1, card.version) for card in backend.cards(1))
    machine("worker").exchange(1)
    assert not (tmp_path / "worker" / "models" / "1" / UNTOLD).exists()
    assert machine("backend").current(1) == machine("worker").current(1) != first


KILLED_WHILE_FETCHING = """
import os, signal, sys
from pathlib import Path
from ml_backend.model_registry import ModelRegistry
from ml_backend.model_storage import ModelStorage

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

root, url = sys.argv[1:]
replace = Path.replace
Path.replace = lambda path, to: die() if path.name.startswith(".weights") else replace(path, to)
ModelRegistry(Path(root), ModelStorage(url)).current(1)
"""


def test_killed_while_it_fetches(machine, place, tmp_path):
    version, network = add(machine("worker"))
    command = [sys.executable, "-c", KILLED_WHILE_FETCHING, str(tmp_path / "backend"), place.url]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    alone = ModelRegistry(tmp_path / "backend")
    assert alone.current(1) is None
    assert alone.cards(1) == []
    backend = machine("backend")
    assert backend.current(1) == version
    assert same(backend.load(1, version)[0], network)


def test_a_folder_that_is_not_mounted_is_not_filled(tmp_path):
    registry = ModelRegistry(tmp_path / "a", ModelStorage((tmp_path / "share").as_uri()))
    with pytest.raises(ModelStorageError, match="there is no such folder"):
        add(registry)
    assert not (tmp_path / "share").exists()


def test_settings_say_where(tmp_path):
    (tmp_path / "share").mkdir()
    url = (tmp_path / "share").as_uri()
    settings = [Settings(data_root=tmp_path / name, model_storage=url) for name in "ab"]
    version, _ = add(ModelRegistry.of(settings[0]))
    assert ModelRegistry.of(settings[1]).current(1) == version
    assert ModelRegistry.of(Settings(data_root=tmp_path / "c")).current(1) is None
