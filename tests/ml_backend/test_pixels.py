import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from biosegment.errors import TaskError, UnsafeAddressError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import image_addresses, shown_tiles
from biosegment.settings import Settings
from ml_backend.pixels import TaskImages


def png(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def huge_png(side):
    """A PNG that claims a size; it holds next to nothing."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


GREY = np.random.default_rng(0).integers(0, 256, (24, 32), "uint8")


@pytest.fixture
def client(settings):
    with LabelStudioClient(settings) as client:
        yield client


@pytest.fixture
def images(settings, client):
    return TaskImages(settings, client)


@pytest.fixture
def remote(site, tmp_path):
    """Images of an installation whose volumes are elsewhere: Label Studio alone has them."""
    settings = Settings(
        data_root=tmp_path / "empty", label_studio_url=site.url, label_studio_api_key="known-to-us"
    )
    with LabelStudioClient(settings) as client:
        yield TaskImages(settings, client)


@pytest.fixture
def task(make_task):
    return make_task(7, height=24, width=32)


@pytest.fixture
def show(site):
    """Let the site answer for a task's images."""

    def add(task, content, status=200, headers=None):
        for address in image_addresses(task):
            site.pages[address] = (status, headers or {}, content)

    return add


def test_pixels_come_from_the_volume(images, volume, make_task):
    image = images.target(make_task(1, z=1, y=4, x=2, height=32, width=48))
    np.testing.assert_array_equal(image, volume[1, 4:36, 2:50] / np.float32(255))
    assert image.dtype == np.float32


def test_neighbouring_slices_are_read_too(images, volume, make_task):
    task = make_task(1, z=3, context=1)
    shown = [images.read(task, tile) for tile in shown_tiles(task)]
    for z, image in zip((2, 3, 4), shown, strict=True):
        np.testing.assert_array_equal(image * 255, volume[z, :32, :32])


@pytest.mark.parametrize(
    "place", [{"z": 5}, {"y": 40}, {"x": 90}, {"height": 10**9}, {"width": 0}, {"height": 0}]
)
def test_a_tile_outside_its_volume_is_named(images, volume, make_task, place):
    with pytest.raises(TaskError, match=r"^Task 1 cannot be used: its image is missing"):
        images.target(make_task(1, **place))


def test_a_volume_that_is_imported_later_is_found(images, make_task, request):
    with pytest.raises(TaskError):
        images.target(make_task(1))
    request.getfixturevalue("volume")
    assert images.target(make_task(1)).shape == (32, 32)


@pytest.mark.parametrize("name", ["../sample", "/etc", "", ".", "a/b", "x" * 300])
def test_a_volume_name_leads_nowhere_else(images, volume, make_task, name):
    task = make_task(1)
    task["data"]["volume"] = name
    with pytest.raises(TaskError, match=r"^Task 1 "):
        images.target(task)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pixels_come_from_label_studio_where_the_volume_is_not(remote, site, task, show, kind):
    show(task, png(GREY, kind))
    np.testing.assert_allclose(remote.target(task), GREY / 255, atol=1e-6)
    assert site.asked[0][1]["Authorization"] == "Token known-to-us"


def test_colour_images_become_grey(remote, task, show):
    show(task, png(np.repeat(GREY[..., None], 3, axis=2)))
    np.testing.assert_allclose(remote.target(task), GREY / 255, atol=1 / 255)


def test_each_slice_has_its_own_image(remote, site, make_task):
    task = make_task(1, z=2, height=24, width=32, context=1)
    for value, address in enumerate(image_addresses(task)):
        site.pages[address] = (200, {}, png(np.full((24, 32), 50 * value, np.uint8)))
    seen = [remote.read(task, tile)[0, 0] * 255 for tile in shown_tiles(task)]
    assert seen == pytest.approx([0, 50, 100])


def test_whole_addresses_of_label_studio_are_followed(remote, site, task):
    task["data"]["image"] = f"{site.url}/data/upload/1/a.png"
    site.pages["/data/upload/1/a.png"] = (200, {}, png(GREY))
    assert remote.target(task).shape == (24, 32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>log in</html>",
        png(GREY)[:200],
        png(GREY).replace(b"IDAT", b"IDAX"),
        png(GREY[:23]),
        png(GREY.T),
        png(GREY, "GIF"),
        huge_png(9000),
        huge_png(10_000),
        huge_png(60_000),
    ],
    ids=["empty", "page", "cut", "damaged", "small", "turned", "gif", "big", "bomb", "bigger bomb"],
)
# Pillow warns of what we refuse.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_another_size_or_kind_is_refused(remote, task, show, content):
    show(task, content)
    with pytest.raises(TaskError, match=r"^Task 7 cannot be used: its image is missing"):
        remote.target(task)


def test_an_image_that_is_too_large_to_decode_is_refused(remote, make_task, show):
    task = make_task(7, height=9000, width=9000)
    show(task, huge_png(9000))
    with pytest.raises(TaskError, match="9000 x 9000 px"):
        remote.target(task)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_image_that_label_studio_does_not_give_is_named(remote, task, show, status):
    show(task, b"sorry", status)
    with pytest.raises(TaskError, match=f"its image is missing .*{status}"):
        remote.target(task)


def test_a_task_without_an_image_is_named(remote, task):
    del task["data"]["image"]
    with pytest.raises(TaskError, match=r"^Task 7 "):
        remote.target(task)


OUTSIDE = "http://127.0.0.1:1/a.png"


@pytest.mark.parametrize(
    "address",
    [
        OUTSIDE,
        "//127.0.0.1:1/a.png",
        "https://elsewhere.example/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a.png",
        "http://user@127.0.0.1:1/a.png",
        "gopher://127.0.0.1",
    ],
)
def test_addresses_elsewhere_are_not_followed(site, address):
    settings = Settings(label_studio_url=site.url, label_studio_api_key="known-to-us")
    with (
        LabelStudioClient(settings) as client,
        pytest.raises(UnsafeAddressError, match="may only point to"),
    ):
        client.download(address)
    assert site.asked == []


def test_an_address_behind_a_slash_is_not_followed(remote, site, task):
    task["data"]["image"] = f"/{OUTSIDE}"
    with pytest.raises(TaskError, match="may only point to"):
        remote.target(task)
    assert site.asked == []


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_are_not_followed(remote, site, task, show, status):
    show(task, b"", status, {"Location": f"{site.url}/elsewhere"})
    site.pages["/elsewhere"] = (200, {}, png(GREY))
    with pytest.raises(TaskError, match=str(status)):
        remote.target(task)
    assert "/elsewhere" not in [path for path, _ in site.asked]
