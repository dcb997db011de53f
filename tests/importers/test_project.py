from dataclasses import replace

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.errors import (
    AuthenticationError,
    BioSegmentError,
    LabelConfigError,
    LabelStudioError,
    SourceNotFoundError,
    UnreadableFileError,
)
from biosegment.geometry import Roi
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import image_addresses, shown_tiles, tile_of
from biosegment.store import VolumeStore
from biosegment.tiles import grid_tiles, spread, tile_image_path
from importers.pool import PoolPlan
from importers.project import ProjectPlan, import_project

pytestmark = pytest.mark.stack

SHAPE = (4, 96, 130)
TILES = PoolPlan(tile_px=64)


@pytest.fixture
def source(tmp_path):
    volume = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    tifffile.imwrite(tmp_path / "stack.tif", volume, photometric="minisblack")
    return tmp_path / "stack.tif"


@pytest.fixture
def client(stack):
    with LabelStudioClient(stack.settings) as client:
        yield client


@pytest.fixture
def plan(request, stack, client):
    """A plan of its own for each test; its project is removed afterwards."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name[-50:]).strip("-")
    yield ProjectPlan(title=name, labels=["mitochondria"], volume=name, pool=TILES)
    headers = {"Authorization": f"Token {stack.settings.label_studio_api_key}"}
    for project in client.projects():
        if project["title"] == name:
            address = f"{stack.settings.label_studio_url}/api/projects/{project['id']}/"
            httpx.delete(address, headers=headers, timeout=60).raise_for_status()


@pytest.fixture
def run(stack, source):
    """Import the source by a plan."""

    def run_import(plan, source=source, settings=stack.settings):
        return import_project(source, plan, settings, lambda *_: None)

    return run_import


def titles(client):
    return [project["title"] for project in client.projects()]


def tile_files(stack, plan):
    return sorted((stack.data_root / "tiles" / plan.volume).rglob("*.png"))


def test_a_stack_becomes_a_project(run, plan, stack, client):
    imported = run(plan)
    assert (imported.added, imported.tasks) == (24, 24)
    project = client.project(imported.project_id)
    assert project["title"] == plan.title
    tasks = client.tasks(imported.project_id)
    store = VolumeStore.open(stack.data_root, plan.volume)
    covered = np.zeros(SHAPE, bool)
    for task in tasks:
        tile = tile_of(task)
        covered[tile.roi.slices] = True
        with Image.open(stack.data_root / tile_image_path(tile)) as image:
            shown = np.asarray(image)
        np.testing.assert_array_equal(shown, store.to_display(store.read(tile.roi))[0])
    assert covered.all()
    assert imported.project_id in client.connected_projects()
    assert client.loop_options(imported.project_id) == stack.settings.loop


def test_label_studio_serves_the_images_of_the_tasks(run, plan, stack, client):
    imported = run(replace(plan, context=1))
    (task, *_) = client.tasks(imported.project_id)
    assert len(image_addresses(task)) == 3
    for tile, address in zip(shown_tiles(task), image_addresses(task), strict=True):
        file = stack.data_root / tile_image_path(tile)
        assert client.download(address) == file.read_bytes()


def test_the_same_import_again_changes_nothing(run, plan, stack, client):
    first = run(plan)
    before = [(path, path.stat().st_mtime_ns) for path in tile_files(stack, plan)]
    tasks = client.tasks(first.project_id)
    again = run(plan)
    assert (again.project_id, again.added, again.tasks) == (first.project_id, 0, 24)
    assert client.tasks(first.project_id) == tasks
    assert [(path, path.stat().st_mtime_ns) for path in tile_files(stack, plan)] == before
    assert titles(client).count(plan.title) == 1


def serve(client, project, count):
    """Label nothing in the tasks that are served one after the other; return their tiles."""
    served = []
    for _ in range(count):
        task = client.next_task(project)
        client.annotate(task["id"], [], 1.0)
        served.append(tile_of(task))
    return served


def spread_tiles(plan):
    tiles = list(grid_tiles(plan.volume, Roi.whole(SHAPE), (64, 64)))
    return [tiles[index] for index in spread(tiles, None)]


def test_the_first_tasks_served_are_spread_over_the_volume(run, plan, client):
    imported = run(replace(plan, options={"retrain_every": 100}))
    assert imported.spread == 20
    first = spread_tiles(plan)
    assert serve(client, imported.project_id, 4) == first[:4]
    # An import that adds nothing, and one that adds tiles, leave that order.
    assert run(plan).spread == 0
    assert run(replace(plan, pool=replace(TILES, draw="random", count=3))).spread == 0
    assert serve(client, imported.project_id, 16) == first[4:]
    assert set(serve(client, imported.project_id, 4)).isdisjoint(first)
    in_order = [tile_of(task) for task in client.tasks(imported.project_id)]
    rest = [
        tile
        for tile in list(grid_tiles(plan.volume, Roi.whole(SHAPE), (64, 64)))
        if tile not in first
    ]
    assert in_order[:24] == first + rest


def test_options_that_an_import_does_not_name_stay(run, plan, stack, client):
    first = run(replace(plan, options={"strategy": "random", "retrain_every": 7}))
    assert first.options == replace(stack.settings.loop, strategy="random", retrain_every=7)
    again = run(replace(plan, options={"strategy": None, "retrain_every": 5}))
    assert again.options == replace(stack.settings.loop, strategy="random", retrain_every=5)
    assert client.loop_options(first.project_id) == again.options


def test_a_backend_that_label_studio_cannot_reach_is_named(run, plan, stack):
    away = replace(stack.settings, backend_url="http://127.0.0.1:1")
    with pytest.raises(LabelStudioError, match="cannot reach the ML backend at http"):
        run(plan, settings=away)
    assert run(plan).added == 0


def test_an_import_that_was_interrupted_is_completed(run, plan, stack, source, client):
    def interrupt(stage, done, total):
        if stage == "making tasks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_project(source, plan, stack.settings, interrupt)
    project = client.find_project(plan.title)["id"]
    assert project not in client.connected_projects()
    done = run(plan)
    assert (done.project_id, done.tasks) == (project, 24)
    assert len(client.tasks(project)) == 24
    assert project in client.connected_projects()
    assert tile_of(client.next_task(project)) == spread_tiles(plan)[0]


def test_a_project_takes_more_tiles(run, plan, client):
    first = run(replace(plan, pool=replace(TILES, region=lambda shape: Roi.slice_of(shape, 0))))
    assert first.added == 6
    more = run(plan)
    assert (more.project_id, more.added, more.tasks) == (first.project_id, 18, 24)
    tiles = [tile_of(task) for task in client.tasks(first.project_id)]
    assert len(set(tiles)) == len(tiles) == 24


def test_a_random_pool(run, plan, client):
    imported = run(replace(plan, pool=replace(TILES, draw="random", count=10, seed=3)))
    assert imported.added == 10
    assert run(replace(plan, pool=replace(TILES, draw="random", count=10, seed=3))).added == 0
    assert all(tile_of(task).height == 64 for task in client.tasks(imported.project_id))


def test_tasks_that_somebody_uploaded_are_left_alone(run, plan, client):
    imported = run(plan)
    client.create_tasks(imported.project_id, [{"image": "/data/upload/1/a.png"}])
    assert run(plan).added == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["vesicle"]}, "has the labels mitochondria"),
        ({"labels": ["mitochondria", "background"]}, "has the labels mitochondria"),
        ({"context": 1}, "shows single slices"),
    ],
)
def test_a_project_of_other_labels_is_left_alone(run, plan, client, change, said):
    first = run(plan)
    tasks = client.tasks(first.project_id)
    with pytest.raises(LabelConfigError, match=said):
        run(replace(plan, **change))
    assert client.tasks(first.project_id) == tasks


def test_a_stack_that_cannot_be_read_makes_nothing(run, plan, stack, client, source):
    source.write_bytes(source.read_bytes()[:9000])
    with pytest.raises(UnreadableFileError):
        run(plan)
    assert plan.title not in titles(client)
    assert tile_files(stack, plan) == []
    with pytest.raises(LookupError):
        VolumeStore.open(stack.data_root, plan.volume)


def test_a_stack_that_is_not_there_makes_nothing(run, plan, client, tmp_path):
    with pytest.raises(SourceNotFoundError):
        run(plan, source=tmp_path / "nowhere.tif")
    assert plan.title not in titles(client)


def test_a_wrong_token_writes_nothing(run, plan, stack, tmp_path):
    data_root = tmp_path / "data"
    settings = replace(stack.settings, data_root=data_root, label_studio_api_key="wrong")
    with pytest.raises(AuthenticationError):
        run(plan, settings=settings)
    assert not data_root.exists()


def test_a_label_studio_that_does_not_answer_writes_nothing(run, plan, stack, tmp_path):
    settings = replace(
        stack.settings, data_root=tmp_path / "data", label_studio_url="http://127.0.0.1:1"
    )
    with pytest.raises(LabelStudioError, match="does not answer"):
        run(plan, settings=settings)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("change", [{"labels": ["a", "a"]}, {"title": "EM"}, {"title": "x" * 51}])
def test_labels_and_titles_that_make_no_sense_write_nothing(run, plan, stack, tmp_path, change):
    settings = replace(stack.settings, data_root=tmp_path / "data")
    with pytest.raises(BioSegmentError):
        run(replace(plan, **change), settings=settings)
    assert not (tmp_path / "data").exists()


def test_the_command_line_imports(stack, source, plan, client):
    done = stack.cli(
        "import",
        str(source),
        "--project",
        plan.title,
        "--labels",
        "mitochondria",
        "--tile",
        "64",
        "--name",
        plan.volume,
    )
    assert done.returncode == 0, done.stderr
    assert "24 tasks added, 24 in all" in done.stdout
    assert "The first 20 tasks are spread over the volume; after 3 labels the model" in done.stdout
    assert client.find_project(plan.title)["task_number"] == 24


def test_the_command_line_refuses_a_wrong_token(stack, source, plan, client):
    done = stack.cli(
        "import",
        str(source),
        "--project",
        plan.title,
        "--labels",
        "mitochondria",
        LABEL_STUDIO_API_KEY="wrong",
        LABEL_STUDIO_URL=stack.settings.label_studio_url,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused the token" in done.stderr
    assert plan.title not in titles(client)
