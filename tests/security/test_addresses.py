"""Tasks that point where they must not: other files, other hosts, other parts of Label Studio."""

import gzip
import socket

import numpy as np
import pytest

from biosegment.errors import TaskError, UnsafeAddressError
from biosegment.labelstudio import connection
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from ml_backend.pixels import TaskImages

TOKEN = "known-to-us"


@pytest.fixture
def remote_settings(site, tmp_path):
    """Of an installation whose volumes are elsewhere: images come from Label Studio."""
    return Settings(
        data_root=tmp_path / "empty", label_studio_url=site.url, label_studio_api_key=TOKEN
    )


@pytest.fixture
def client(remote_settings):
    with LabelStudioClient(remote_settings) as client:
        yield client


@pytest.fixture
def internal():
    """A host of the institute that the task's author cannot reach, but the backend can."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "address",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "http://{internal}/data/a.png",
        "//{internal}/data/a.png",
        "/\\{internal}/data/a.png",
        "http://{ours}@{internal}/data/a.png",
        "http://user:password@{ours}/data/a.png",
        "http://{ours}\\@{internal}/data/a.png",
        "http://{ours}#@{internal}/data/a.png",
        "/http://{internal}/data/a.png",
        "https://{ours}/data/a.png",
        "ftp://{ours}/data/a.png",
        "gopher://{internal}/data/a.png",
        "dict://{internal}/data/a.png",
        "s3://bucket/data/a.png",
        "data:image/png;base64,AAAA",
        "http://[::1/data/a.png",
        "",
        "/",
        "/api/projects/",
        "/api/current-user/token",
        "/data/../api/current-user/token",
        "/user/logout",
        "/projects/1/../../api/users",
        "/django-rq/",
    ],
)
def test_only_files_of_label_studio_are_fetched(client, site, internal, address):
    ours = site.url.removeprefix("http://")
    there = f"127.0.0.1:{internal.getsockname()[1]}"
    with pytest.raises((UnsafeAddressError, ValueError)):
        client.download(address.format(ours=ours, internal=there))
    assert site.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_an_internal_host_is_not_followed(client, site, internal, status):
    there = f"http://127.0.0.1:{internal.getsockname()[1]}/data/a.png"
    site.pages["/data/a.png"] = (status, {"Location": there}, b"")
    with pytest.raises(Exception, match=str(status)):
        client.download("/data/a.png")


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f.1", "127.0.0.1."])
def test_another_name_of_the_same_host_is_another_host(client, site, name):
    """Names are compared, not where they lead: nobody who rules a name can turn it round."""
    with pytest.raises(UnsafeAddressError):
        client.download(f"http://{name}:{site.server_port}/data/a.png")
    assert site.asked == []


def test_a_file_that_is_too_large_is_given_up(client, site, monkeypatch):
    monkeypatch.setattr(connection, "MAX_FILE_BYTES", 2**20)
    site.pages["/data/a.png"] = (200, {}, bytes(2**21))
    with pytest.raises(Exception, match="more than 1048576 bytes"):
        client.download("/data/a.png")


def test_a_file_that_unpacks_without_end_is_given_up(client, site, monkeypatch):
    monkeypatch.setattr(connection, "MAX_FILE_BYTES", 2**22)
    packed = gzip.compress(bytes(2**26))
    site.pages["/data/a.png"] = (200, {"Content-Encoding": "gzip"}, packed)
    with pytest.raises(Exception, match="more than 4194304 bytes"):
        client.download("/data/a.png")


@pytest.mark.parametrize(
    "name", ["..", "../volumes/sample", "/etc", "sample/../sample", "sample\0", "~root", "a" * 101]
)
def test_the_name_of_a_volume_leads_nowhere_else(
    make_app, settings, volume, make_task, serve, name
):
    serve(1)
    task = make_task(1) | {"data": make_task(1)["data"] | {"volume": name}}
    body = {"project": "1.1", "tasks": [task], "label_config": CONFIG}
    with make_app(settings).test_client() as http:
        assert http.post("/predict", json=body).status_code == 422


def test_a_link_in_the_data_root_is_its_owners_choice(settings, volume, make_task, tmp_path):
    """No name of a task goes through one that the owner did not make; that one is followed."""
    there = settings.data_root / "volumes" / "sample.ome.zarr"
    elsewhere = tmp_path / "other-disk.ome.zarr"
    there.rename(elsewhere)
    with LabelStudioClient(settings) as client:
        with pytest.raises(TaskError):
            TaskImages(settings, client).target(make_task(1))
        there.symlink_to(elsewhere)
        image = TaskImages(settings, client).target(make_task(1))
    np.testing.assert_array_equal(image, volume[0, :32, :32] / np.float32(255))


CONFIG = (
    "<View><Image name='image' value='$image'/><BrushLabels name='label' toName='image'>"
    "<Label value='mitochondria'/></BrushLabels></View>"
)
