"""Uncertainty on the status page: what is drawn, which tile a spot belongs to, and its task."""

import html
import io
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
import zarr
from PIL import Image

from biosegment.geometry import Roi, VoxelSize
from biosegment.labels import labelling_config
from biosegment.labelstudio.payloads import NEUTRAL_SCORE, UNTRAINED, task_data, tile_of
from biosegment.levels import levels
from biosegment.linked import Link
from biosegment.store import VolumeStore, volume_path
from biosegment.tiles import Tile, tile_image_path
from biosegment.unfinished_labels import UnfinishedLabels, write_blocks

SHAPE = (5, 64, 96)
LARGE = (2, 1100, 601)


def segment(store, uncertainty, name="cells", mask=None, **source):
    """Make labels with a map of uncertainty, each (z, y, x)."""
    mask = np.zeros(store.shape, np.uint8) if mask is None else mask
    with UnfinishedLabels.begin(store, name, ["cell"], source, 1, ["uncertainty"]) as labels:
        for z in range(store.shape[0]):
            blocks = {"labels": mask[z : z + 1], "uncertainty": uncertainty[z : z + 1]}
            write_blocks(store, name, Roi.slice_of(store.shape, z), blocks)
        labels.finish()


@pytest.fixture
def store(volume, settings):
    """The volume; a segmentation is unsure in the middle of slice 3, a little in slice 1."""
    store = VolumeStore.open(settings.data_root, "sample")
    uncertainty = np.zeros(SHAPE, np.uint8)
    uncertainty[3, 32:, 32:64] = 255
    uncertainty[1] = 10
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, :, 64:] = 1
    segment(store, uncertainty, mask=mask, project_id=3, version="0001-20261122T101530")
    return store


def pixels(answer):
    assert answer.status_code == 200
    assert answer.content_type == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.data)))


@pytest.fixture
def drawn(http):
    """Fetch the picture of a slice, an array (y, x, 3)."""

    def fetch(volume="sample", **query):
        address = f"/projects/3/uncertainty/{volume}/slice.png"
        return pixels(http.get(address, query_string=query))

    return fetch


# Pictures


def test_only_what_is_uncertain_is_covered(drawn, volume, store):
    grey = np.repeat(volume[3][..., None], 3, axis=2)
    np.testing.assert_array_equal(drawn(z=3, opacity=0, outlines=0), grey)
    covered = drawn(z=3, opacity=100, outlines=0)
    sure = np.ones(SHAPE[1:], bool)
    sure[32:, 32:64] = False
    np.testing.assert_array_equal(covered[sure], grey[sure])
    (colour,) = np.unique(covered[~sure], axis=0)
    red, green, blue = colour.tolist()
    assert red > 200
    assert green > 200
    assert blue < 100
    half = drawn(z=3, opacity=50, outlines=0)
    np.testing.assert_allclose(half[~sure], (colour + grey[~sure].astype(float)) / 2, atol=0.51)


def test_labels_are_outlined(drawn, store):
    changed = drawn(z=3, opacity=0) != drawn(z=3, opacity=0, outlines=0)
    assert changed.any(axis=2)[:, 64].all()
    assert not changed[:, :64].any()
    assert not changed[:, 65:].any()


def test_a_part_of_a_slice(drawn, store):
    whole = drawn(z=3)
    part = drawn(z=3, y=20, x=30, height=32, width=40)
    np.testing.assert_array_equal(part[1:-1, 1:-1], whole[21:51, 31:69])


@pytest.fixture
def large(settings):
    """Intensities that change smoothly: coarser levels are much like them."""
    y, x = np.ogrid[: LARGE[1], : LARGE[2]]
    slices = [(60 + 20 * z + y / 10 + x / 20).astype(np.uint8) for z in range(LARGE[0])]
    path = volume_path(settings.data_root, "large")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, LARGE, np.uint8, VoxelSize(50, 5, 5))
    store.write(Roi.whole(LARGE), np.stack(slices))
    for step in store.pyramid_steps():
        store.build_pyramid(*step)
    store.finish((0, 255), {})
    segment(store, np.zeros(LARGE, np.uint8))
    return store


def test_a_large_slice_is_shown_coarser_and_its_tiles_are_not(drawn, large):
    coarse = levels(large)[1].read(Roi.slice_of((2, 550, 301), 1))[0]
    np.testing.assert_array_equal(drawn("large", z=1)[..., 0], coarse)
    tile = large.read(Roi(1, 512, 256, 1, 256, 256))[0]
    shown = drawn("large", z=1, y=512, x=256, height=256, width=256)
    np.testing.assert_array_equal(shown[..., 0], tile)


def test_intensities_that_lie_elsewhere_are_shown_as_well(drawn, large, settings, tmp_path, http):
    source = zarr.open_group(tmp_path / "source.zarr", mode="w")
    source.create_array("raw", data=large.read(Roi.whole(LARGE)), chunks=(1, 128, 128))
    link = Link("zarr", str(tmp_path / "source.zarr"), "raw")
    path = volume_path(settings.data_root, "linked")
    store = VolumeStore.create_linked(path, link, VoxelSize(50, 5, 5))
    store.finish((0, 255), {})
    segment(store, np.zeros(LARGE, np.uint8))
    copied, linked = drawn("large", z=1), drawn("linked", z=1)
    assert linked.shape == copied.shape == (550, 301, 3)
    assert np.abs(linked.astype(int) - copied).max() <= 1
    np.testing.assert_array_equal(
        drawn("linked", z=1, y=1000, x=400, height=100, width=201),
        drawn("large", z=1, y=1000, x=400, height=100, width=201),
    )
    (tmp_path / "source.zarr").rename(tmp_path / "gone")
    answer = http.get("/projects/3/uncertainty/linked/slice.png?z=1")
    assert answer.status_code == 404
    assert "put it back" in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("sample/slice.png?z=5", "from 0 to 4, not '5'"),
        ("sample/slice.png?z=-1", "from 0 to 4, not '-1'"),
        ("sample/slice.png?z=1e3", "whole number"),
        ("sample/slice.png?z=" + 5000 * "9", "whole number"),
        ("sample/slice.png?z=0&y=64", "from 0 to 63"),
        ("sample/slice.png?z=0&y=60&height=5", "y, x"),
        ("sample/slice.png?z=0&height=0", "from 1 to 64"),
        ("sample/slice.png?z=0&opacity=101", "from 0 to 100"),
        ("sample/slice.png?z=0&labels=../cells", "no labels '../cells'"),
        ("sample/slice.png?z=0&labels=other", "no labels 'other'"),
        ("sample/strip.svg?z=5", "from 0 to 4"),
        ("nowhere/slice.png?z=0", "no volume 'nowhere'"),
        ("nowhere/strip.svg", "no volume 'nowhere'"),
        ("..%2Fsample/slice.png?z=0", "not found"),
        ("bare/slice.png?z=0", "biosegment segment bare --uncertainty"),
        ("bare", "biosegment segment bare --uncertainty"),
        ("sample?z=5", "from 0 to 4"),
    ],
)
def test_what_is_not_there(http, store, settings, path, said):
    bare = VolumeStore.create(volume_path(settings.data_root, "bare"), SHAPE, np.uint8)
    bare.finish((0, 255), {})
    # Labels without a map.
    store.create_labels("other", ["cell"])
    store.finish_labels("other")
    answer = http.get(f"/projects/3/uncertainty/{path}")
    assert answer.status_code == 404
    assert said in answer.json["error"]


def bars(answer):
    """Return the heights of the curve of a strip, one a slice."""
    assert answer.content_type.startswith("image/svg+xml")
    (curve,) = ET.fromstring(answer.data).iter("{http://www.w3.org/2000/svg}polygon")
    corners = [float(each.split(",")[1]) for each in curve.get("points").split()]
    return [corners[0] - y for y in corners[1:-1:2]]


def test_the_strip_shows_all_slices_and_what_replaced_them(http, store):
    address = "/projects/3/uncertainty/sample/strip.svg?z=2"
    heights = bars(http.get(address))
    assert len(heights) == SHAPE[0]
    assert heights[0] == heights[2] == heights[4] == 0
    assert heights[1] == pytest.approx(heights[3] * 10 / (255 / 6), abs=0.1)
    again = np.zeros(SHAPE, np.uint8)
    again[0] = 5
    segment(store, again)
    heights = bars(http.get(address))
    assert heights[0] > 0 == max(heights[1:])


def test_the_status_page_leads_to_the_latest_map_of_each_project(http, store, serve):
    serve(3)
    serve(4)
    empty = np.zeros(SHAPE, np.uint8)
    segment(store, empty, "later", project_id=3, version="0002-20261123T101530")
    segment(store, empty, "a", project_id=4, version="0001-20261123T101530")
    segment(store, empty, "imported")
    links = re.findall(r'<a href="(\S+)">uncertainty of sample</a>', http.get("/").text)
    assert links == [
        "/projects/3/uncertainty/sample?labels=later",
        "/projects/4/uncertainty/sample?labels=a",
    ]


# The page, and the task of a spot


@pytest.fixture
def here(stack, settings):
    """The stack's Label Studio, with a data root and a queue of our own; it serves our tiles."""
    settings.data_root.mkdir(exist_ok=True)
    (stack.data_root / "tiles").mkdir(exist_ok=True)
    (settings.data_root / "tiles").symlink_to(stack.data_root / "tiles")
    return replace(stack.settings, data_root=settings.data_root, redis_url=settings.redis_url)


TASKS = ((0, 0, 0), (0, 0, 32), (0, 8, 40), (1, 10, 50), (2, 10, 50), (2, 0, 40))
"""z, y, x of the tiles, of 32 x 32 pixels, that a project begins with."""


@pytest.fixture
def make_project(client, here):
    numbers = []

    def make(context=0):
        config = labelling_config(["mitochondria"], slices=context > 0)
        number = client.create_project("Pick <a> spot", config)["id"]
        tiles = [Tile("sample", *place, 32, 32) for place in TASKS]
        data = [task_data(tile, context=context, depth=SHAPE[0]) for tile in tiles]
        client.create_tasks(number, data)
        numbers.append(number)
        return number

    yield make
    headers = {"Authorization": f"Token {here.label_studio_api_key}"}
    for number in numbers:
        address = f"{here.label_studio_url}/api/projects/{number}/"
        httpx.delete(address, headers=headers, timeout=60).raise_for_status()


@pytest.fixture
def project(make_project):
    return make_project()


@pytest.fixture
def app(make_app, request):
    wanted = "here" if "here" in request.fixturenames else "settings"
    return make_app(request.getfixturevalue(wanted))


@pytest.fixture
def ask(app, here, store):
    """Open a project's page, or send its form."""
    auth = (here.basic_auth_user, here.basic_auth_pass)

    def send(project, method="GET", headers=None, **query):
        where = {"query_string": query} if method == "GET" else {"data": query}
        address = f"/projects/{project}/uncertainty/sample"
        http = app.test_client()
        return http.open(address, method=method, auth=auth, headers=headers, **where)

    return send


def tile_shown(page):
    """Return z, y, x of the tile that a page offers, None for none."""
    found = re.search(r"Slice (\d+), rows (\d+) to \d+, columns (\d+) to", page)
    return found and tuple(map(int, found.groups()))


def task_shown(page):
    """Return the number of the task that a page links to, None for none."""
    found = re.search(r"/data\?task=(\d+)\"", page)
    return found and int(found[1])


@pytest.mark.stack
def test_the_page_begins_with_the_least_sure_slice(ask, project):
    answer = ask(project)
    assert answer.status_code == 200
    page = html.unescape(answer.text)
    assert "Pick &lt;a&gt; spot: uncertainty of sample" in answer.text
    assert 'alt="Slice 3 of sample' in page
    assert re.search(r'href="\S+z=2&\S+" rel="prev"', page)
    assert re.search(r'href="\S+z=4&\S+" rel="next"', page)
    first = re.search(r"<td>(\d+)</td><td>(\d+)</td><td>(\S+)</td>", page).groups()
    assert first == ("32", "32", "1.000")
    assert "<script" not in page
    assert "Label this tile" not in page
    assert 'rel="prev"' not in ask(project, z=0).text
    assert 'rel="next"' not in ask(project, z=4).text
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.stack
def test_a_click_on_the_strip_shows_that_slice(ask, project):
    for x, z in ((0, 0), (125, 1), (599, 4), (600, 4)):
        page = ask(project, **{"strip.x": x, "strip.y": 3}).text
        assert f'alt="Slice {z} of sample' in page


@pytest.mark.stack
@pytest.mark.parametrize(
    ("spot", "tile"),
    [
        ((3, 5, 33), (3, 0, 32)),  # where another slice has one, and the whole volume's grid too
        ((3, 20, 78), (3, 10, 50)),  # where two other slices have one
        ((3, 60, 90), (3, 32, 64)),  # where none has: the grid of the whole volume
        ((0, 30, 60), (0, 8, 40)),  # a task of the slice: the nearer one of two
        ((0, 3, 45), (0, 0, 32)),
        ((2, 12, 60), (2, 0, 40)),
    ],
)
def test_the_tile_at_a_spot(ask, project, client, spot, tile):
    z, y, x = spot
    page = ask(project, z=z, y=y, x=x).text
    assert tile_shown(page) == tile
    known = {tile_of(task): task["id"] for task in client.tasks(project)}
    assert task_shown(page) == known.get(Tile("sample", *tile, 32, 32))
    assert ("Label this tile" in page) == (tile not in TASKS)
    # A click tells pixels of the page, where a slice is 600 wide.
    clicked = {"spot.x": round((x + 0.5) * 600 / 96), "spot.y": round((y + 0.5) * 600 / 96)}
    assert tile_shown(ask(project, z=z, **clicked).text) == tile


@pytest.mark.stack
def test_a_picked_tile_is_served_next_with_a_mask(ask, project, client, serve, here, store):
    queue = f"{serve(project)} (entropy)"
    tasks = client.tasks(project)
    ranked = [
        {"task": task["id"], "result": [], "score": 0.1 * place, "model_version": queue}
        for place, task in enumerate(tasks, start=1)
    ]
    client.import_predictions(project, ranked)
    client.set_model_version(project, queue)
    answer = ask(project, "POST", z=3, y=60, x=90)
    assert answer.status_code == 303
    served = client.next_task(project)
    tile = tile_of(served)
    assert tile == Tile("sample", 3, 32, 64, 32, 32)
    assert served["data"] == task_data(tile, context=0, depth=SHAPE[0])
    (prediction,) = client._sdk.predictions.list(task=served["id"])
    assert prediction.model_version == queue
    assert prediction.score < 0.1
    assert len(prediction.result) == 1
    image = client.download(served["data"]["image"])
    assert image == (here.data_root / tile_image_path(tile)).read_bytes()
    shown = np.asarray(Image.open(io.BytesIO(image)))
    np.testing.assert_array_equal(shown, store.read(tile.roi)[0])

    followed = ask(project, **dict(httpx.QueryParams(answer.location.partition("?")[2]))).text
    assert "Served next" in followed
    assert task_shown(followed) == served["id"]
    again = ask(project, "POST", z=3, y=40, x=70)
    assert again.status_code == 303
    assert "added=0" in again.location
    assert len(client.tasks(project)) == len(tasks) + 1
    client.annotate(served["id"], [], 1.0)
    assert "labelled" in ask(project, z=3, y=60, x=90).text


@pytest.mark.stack
def test_before_the_first_model_a_picked_tile_is_served_next_too(ask, project, client):
    ask(project, "POST", z=3, y=40, x=40)
    ask(project, "POST", z=4, y=60, x=90)
    (later, first) = client.head_of_queue(project, 2)
    assert (tile_of(later).z, tile_of(first).z) == (4, 3)
    assert later["predictions_score"] < first["predictions_score"] < NEUTRAL_SCORE
    served = client.next_task(project)
    assert served["id"] == later["id"]
    (prediction,) = client._sdk.predictions.list(task=served["id"])
    assert (prediction.model_version, prediction.result) == (UNTRAINED, [])


@pytest.mark.stack
def test_a_picked_tile_shows_as_many_slices_as_the_others(ask, make_project, client):
    project = make_project(context=2)
    assert ask(project, "POST", z=3, y=60, x=90).status_code == 303
    served = client.next_task(project)
    tile = Tile("sample", 3, 32, 64, 32, 32)
    assert served["data"] == task_data(tile, context=2, depth=SHAPE[0])
    for address in served["data"]["slices"]:
        assert client.download(address)


@pytest.mark.stack
def test_two_clicks_at_once_make_one_task(ask, project, client):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(project, "POST", z=3, y=60, x=90), range(4)))
    assert [answer.status_code for answer in answers] == [303] * 4
    assert sum("added=1" in answer.location for answer in answers) == 1
    assert len(client.tasks(project)) == len(TASKS) + 1


@pytest.mark.stack
def test_what_is_refused_makes_no_task(ask, project, client, here):
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert ask(project, "POST", elsewhere, z=3, y=60, x=90).status_code == 403
    assert ask(project, "POST", z=3).status_code == 404
    assert ask(project, "POST", z=5, y=60, x=90).status_code == 404
    assert ask(project, "POST", z=3, y=64, x=90).status_code == 404
    assert len(client.tasks(project)) == len(TASKS)
    assert not (here.data_root / tile_image_path(Tile("sample", 3, 64, 64, 32, 32))).exists()
