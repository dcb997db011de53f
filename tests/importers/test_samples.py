import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.errors import SampleError
from importers import vnc
from importers.detect import open_volume
from importers.samples import fetch_vnc, vnc_sample, write_synthetic

SHAPE = (3, 12, 15)


class Server:
    """A web server that holds a small stack, laid out as the sample is."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.raw = rng.integers(0, 256, SHAPE, "uint8")
        self.mask = rng.random(SHAPE) > 0.5
        for name in ("raw", "mitochondria"):
            (folder / name).mkdir(parents=True)
        for z in range(SHAPE[0]):
            tifffile.imwrite(folder / f"raw/{z:02}.tif", self.raw[z])
            # Real masks hold 1 in some slices and 255 in others.
            mask = Image.fromarray(self.mask[z].astype("uint8") * (1 if z == 1 else 255))
            mask.save(folder / f"mitochondria/{z:02}.png")
        self.sha256 = {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob("*/*"))
        }
        self.asked = []
        self._http = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, self.asked, directory=str(folder))
        )
        self.url = f"http://127.0.0.1:{self._http.server_port}/"

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, asked, *arguments, **options):
        self.asked = asked
        super().__init__(*arguments, **options)

    def log_message(self, format, *arguments):
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "server") as server:
        yield server


def test_the_sample_is_downloaded_and_assembled(server, tmp_path):
    told = []
    files = fetch_vnc(tmp_path / "cache", lambda *now: told.append(now), server.url, server.sha256)
    np.testing.assert_array_equal(tifffile.imread(files.raw), server.raw)
    np.testing.assert_array_equal(tifffile.imread(files.labels) > 0, server.mask)
    with open_volume(files.raw) as reader:
        assert reader.info.voxel_size.zyx == pytest.approx(vnc.VOXEL_SIZE.zyx)
    assert told == [(done, 6) for done in range(7)]


def test_what_is_there_is_not_downloaded_again(server, tmp_path):
    fetch_vnc(tmp_path / "cache", base_url=server.url, sha256=server.sha256)
    server.asked.clear()
    fetch_vnc(tmp_path / "cache", base_url=server.url, sha256=server.sha256)
    assert server.asked == []


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    def interrupt(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_vnc(tmp_path / "cache", interrupt, server.url, server.sha256)
    server.asked.clear()
    fetch_vnc(tmp_path / "cache", base_url=server.url, sha256=server.sha256)
    assert len(server.asked) == 2


def test_a_wrong_checksum_is_refused_and_nothing_of_it_kept(server, tmp_path):
    sha256 = {**server.sha256, "raw/01.tif": "0" * 64}
    with pytest.raises(SampleError, match=r"raw/01\.tif is not the file it should be"):
        fetch_vnc(tmp_path / "cache", base_url=server.url, sha256=sha256)
    assert not list((tmp_path / "cache").rglob("01.tif"))


def test_a_server_that_cannot_be_reached_is_said_plainly(tmp_path):
    with pytest.raises(SampleError, match=r"127\.0\.0\.1:9/.* cannot be downloaded"):
        fetch_vnc(tmp_path / "cache", base_url="http://127.0.0.1:9/")


def test_the_real_checksums_cover_every_slice():
    registry = vnc.registry()
    assert len(registry) == len(set(registry.values())) == 40
    assert {"raw/00.tif", "raw/19.tif", "mitochondria/19.png"} <= set(registry)
    assert all(len(sha256) == 64 for sha256 in registry.values())


def test_a_local_copy_is_taken_as_it_is(tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    (local / "raw.tif").touch()
    (local / "mitochondria.tif").touch()
    files = vnc_sample(tmp_path / "cache", local)
    assert files.raw == local / "raw.tif"
    assert not (tmp_path / "cache").exists()


def test_the_made_up_sample_is_called_synthetic_and_made_once(tmp_path):
    files = write_synthetic(tmp_path / "samples", (2, 64, 96), seed=3)
    assert files.name == "synthetic"
    assert "synthetic" in files.raw.name
    made = files.raw.stat().st_mtime_ns
    again = write_synthetic(tmp_path / "samples", (2, 64, 96), seed=3)
    assert again.raw.stat().st_mtime_ns == made
    with open_volume(files.raw) as raw, open_volume(files.labels) as labels:
        assert raw.info.shape == labels.info.shape == (2, 64, 96)
        assert raw.info.voxel_size.x == pytest.approx(4.6)
