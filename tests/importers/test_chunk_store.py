import json
import os
import pickle
import shutil
import socket
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import boto3
import numpy as np
import pytest
import zarr
from moto.server import ThreadedMotoServer

from biosegment.errors import (
    ChoiceError,
    LinkError,
    MissingExtraError,
    SourceUnreachableError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore
from importers.base import Choice
from importers.convert import import_volume
from importers.detect import open_volume
from importers.n5_volume import N5Reader
from importers.preprocessing.parse import parse_steps
from importers.testing import SHAPE, VOXEL_SIZE, example
from importers.zarr_volume import ZarrReader


class Handler(SimpleHTTPRequestHandler):
    """Serves files; what is asked for is noted, and a status can be forced."""

    def do_GET(self):
        self.server.asked.append(self.path)
        status = self.server.forced.get(self.path.rsplit("/", 1)[-1])
        return self.send_error(status) if status else super().do_GET()

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An OME-Zarr image, plain arrays of both versions, and N5."""
    tmp_path = tmp_path_factory.mktemp("remote")
    store = VolumeStore.create(tmp_path / "www/own.ome.zarr", SHAPE, "uint16", VOXEL_SIZE)
    store.write(Roi.whole(SHAPE), example("uint16"))
    store.finish((0, 255), {"name": "stack.tif"})
    for version in (2, 3):
        root = zarr.open_group(tmp_path / f"www/v{version}.zarr", mode="w", zarr_format=version)
        for name in ("a", "b"):
            root.create_array(name, data=example("uint8"), chunks=(5, 20, 20))
    attributes = {"dimensions": SHAPE[::-1], "blockSize": SHAPE[::-1], "dataType": "uint8"}
    (tmp_path / "www/c.n5/s0/0/0").mkdir(parents=True)
    (tmp_path / "www/c.n5/attributes.json").write_text(json.dumps({"n5": "4.0.0"}))
    text = json.dumps({**attributes, "compression": {"type": "raw"}, "resolution": [4, 5, 40]})
    (tmp_path / "www/c.n5/s0/attributes.json").write_text(text)
    header = bytes.fromhex("0000 0003 00000035 00000025 00000005")
    (tmp_path / "www/c.n5/s0/0/0/0").write_bytes(header + example("uint8").tobytes())
    return tmp_path / "www"


@pytest.fixture
def server(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        server.asked, server.forced = [], {}
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def s3(folder):
    """A server of S3 with the same files in a bucket; all but N5 are public."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    account = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **account)
    client.create_bucket(Bucket="volumes", ACL="public-read")
    for path in folder.rglob("*"):
        if path.is_file():
            access = "private" if "c.n5" in path.parts else "public-read"
            name = str(path.relative_to(folder))
            client.upload_file(path, "volumes", name, ExtraArgs={"ACL": access})
    client.close()
    yield url
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    """The address of that bucket, for a user who has credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return "s3://volumes"


def check_own(address):
    with open_volume(address) as reader:
        assert type(reader) is ZarrReader
        assert (reader.info.shape, reader.info.voxel_size) == (SHAPE, VOXEL_SIZE)
        roi = Roi(1, 2, 3, 3, 20, 30)
        np.testing.assert_array_equal(reader.read(roi), example("uint16")[roi.slices])
        return reader.fingerprint()


def test_an_image_over_http(server, folder):
    remote = check_own(f"{server.url}/own.ome.zarr/")
    assert remote == check_own(folder / "own.ome.zarr")


def test_an_image_in_s3(bucket, folder):
    assert check_own(f"{bucket}/own.ome.zarr") == check_own(folder / "own.ome.zarr")


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_in_groups(server, bucket, version):
    for root in (server.url, bucket):
        with pytest.raises(ChoiceError, match=r"2 datasets \(a, b\)"):
            open_volume(f"{root}/v{version}.zarr")
        with open_volume(f"{root}/v{version}.zarr", Choice(dataset="b")) as reader:
            np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), example("uint8"))


def test_containers_of_n5(server, bucket):
    for root in (server.url, bucket):
        for place, dataset in (("c.n5", None), ("c.n5", "s0"), ("c.n5/s0", None)):
            with open_volume(f"{root}/{place}", Choice(dataset=dataset)) as reader:
                assert type(reader) is N5Reader
                assert reader.info.voxel_size == VoxelSize(40, 5, 4)
                np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), example("uint8"))


def test_only_the_chunks_of_a_region_are_fetched(server):
    with open_volume(f"{server.url}/v2.zarr", Choice(dataset="a")) as reader:
        server.asked.clear()
        reader.read(Roi(1, 0, 0, 2, 10, 21))
    assert sorted(server.asked) == ["/v2.zarr/a/0.0.0", "/v2.zarr/a/0.0.1"]


def test_a_copy_in_another_process_fetches_by_itself(server):
    with open_volume(f"{server.url}/own.ome.zarr") as reader:
        copy = pickle.loads(pickle.dumps(reader))
    with copy:
        np.testing.assert_array_equal(copy.read(Roi.whole(SHAPE)), example("uint16"))


def test_a_volume_is_imported_from_an_address(server, tmp_path):
    store = import_volume(f"{server.url}/own.ome.zarr", tmp_path / "data", "cells")
    np.testing.assert_array_equal(store.read(Roi.whole(SHAPE)), example("uint16"))
    assert store.source["name"] == "own.ome.zarr"
    again = import_volume(f"{server.url}/own.ome.zarr", tmp_path / "data", "cells")
    assert again.path == store.path


@pytest.mark.parametrize("steps", [[], parse_steps("invert")])
def test_what_may_be_secret_of_an_address_is_not_kept(server, tmp_path, steps):
    address = f"{server.url}/own.ome.zarr".replace("://", "://reader:opensesame@")
    store = import_volume(address, tmp_path / "data", "a", steps=steps)
    kept = "".join(path.read_text() for path in store.path.rglob("zarr.json"))
    assert "opensesame" not in kept
    assert store.source["name"] == "own.ome.zarr"
    assert not steps or store.source["path"] == f"{server.url}/own.ome.zarr"


def test_a_volume_behind_an_address_is_copied(server, tmp_path):
    with pytest.raises(LinkError, match="import it without --link"):
        import_volume(f"{server.url}/own.ome.zarr", tmp_path / "data", "cells", link=True)


def test_nothing_behind_an_address(server, bucket):
    for root in (server.url, bucket):
        with pytest.raises(UnsupportedFormatError, match=r"no zarr\.json.* no attributes\.json"):
            open_volume(f"{root}/own.tif")


def test_a_host_that_does_not_answer():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SourceUnreachableError, match=r"127\.0\.0\.1.*it does not answer"):
        open_volume(f"http://127.0.0.1:{port}/own.ome.zarr")


def test_a_server_in_trouble(server):
    with open_volume(f"{server.url}/v2.zarr", Choice(dataset="a")) as reader:
        server.forced["0.1.2"] = 503
        with pytest.raises(SourceUnreachableError, match=r"127\.0\.0\.1.*answers with 503"):
            reader.read(Roi.whole(SHAPE))


@pytest.mark.parametrize("status", [401, 403])
def test_an_address_that_wants_credentials(server, status):
    server.forced["zarr.json"] = status
    with pytest.raises(SourceUnreachableError, match="access is denied; give credentials"):
        open_volume(f"{server.url}/own.ome.zarr")


def test_a_bucket_that_is_not_there(bucket):
    with pytest.raises((SourceUnreachableError, UnsupportedFormatError), match="s3://other"):
        open_volume("s3://other/own.ome.zarr")


def test_public_volumes_need_no_credentials_and_others_do(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    check_own(f"{bucket}/own.ome.zarr")
    with pytest.raises(SourceUnreachableError, match=r"s3://volumes/c\.n5.*access is denied"):
        open_volume(f"{bucket}/c.n5")


def test_a_damaged_chunk(server, folder):
    shutil.copytree(folder / "v2.zarr", folder / "damaged.zarr")
    chunk = folder / "damaged.zarr/a/0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-7])
    with (
        open_volume(f"{server.url}/damaged.zarr", Choice(dataset="a")) as reader,
        pytest.raises(UnreadableFileError, match=r"http://.*cannot be decoded"),
    ):
        reader.read(Roi.whole(SHAPE))


@pytest.mark.parametrize("address", ["ftp://host/a.zarr", "file:///etc/a.zarr", "gopher://a/b.n5"])
def test_other_kinds_of_addresses_are_refused(address):
    with pytest.raises(SourceUnreachableError, match="only http, https and s3"):
        open_volume(address)


@pytest.mark.parametrize(
    ("address", "module"), [("s3://a/b.zarr", "s3fs"), ("https://a/b.zarr", "aiohttp")]
)
def test_the_extra_for_addresses_is_named(monkeypatch, address, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "biosegment\[cloud\]"'):
        open_volume(address)
