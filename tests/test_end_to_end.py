"""The whole loop on real software: painted in the page, learnt, ranked, served again.

With BIOSEGMENT_SCREENSHOTS set to a folder, the pictures of the documentation are taken into it.
"""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile
from playwright.sync_api import expect, sync_playwright

from biosegment.brush import decode_mask
from biosegment.labels import LabelMap
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import annotated_masks, tile_of
from biosegment.tiles import Tile
from importers.samples import synthetic_volume
from ml_backend.model_registry import ModelRegistry

pytestmark = [pytest.mark.stack, pytest.mark.browser, pytest.mark.timeout(900)]

TITLE = "End to end"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def lysosomes(shape, seed=0):
    """Synthetic EM with dark round lysosomes: what a network learns within a minute."""
    rng = np.random.default_rng(seed)
    raw, _ = synthetic_volume(shape, seed)
    labels = np.zeros(shape, np.uint8)
    yy, xx = np.mgrid[: shape[1], : shape[2]]
    for z in range(shape[0]):
        for _ in range(shape[1] * shape[2] // 6000):
            y, x = rng.integers(0, shape[1:])
            radius = rng.integers(14, 26)
            labels[z][(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = 1
    dark = (raw * 0.25 + 12).astype(np.uint8)
    return np.where(labels == 1, dark, raw), labels


@pytest.fixture(scope="module")
def truth():
    return lysosomes((3, 384, 384))[1]


@pytest.fixture(scope="module")
def project(stack, truth, tmp_path_factory):
    """A project imported by the command line; the strategy is the default one."""
    path = tmp_path_factory.mktemp("lysosomes") / "lysosomes.tif"
    tifffile.imwrite(path, lysosomes(truth.shape)[0], photometric="minisblack")
    arguments = [str(path), "--project", TITLE, "--labels", "lysosome", "--tile", "128"]
    done = stack.cli("import", *arguments)
    assert done.returncode == 0, done.stderr
    assert "27 tasks added" in done.stdout
    return stack.client.find_project(TITLE)


class Page:
    """Label Studio in a browser, as the expert sees it."""

    def __init__(self, stack, project, page):
        self._url = stack.settings.label_studio_url
        self._backend = stack.settings.backend_url
        self._project_id = project["id"]
        self._page = page
        self._shots = os.environ.get("BIOSEGMENT_SCREENSHOTS")
        user, password = stack.login
        page.goto(f"{self._url}/user/login/")
        page.fill("input[name=email]", user)
        page.fill("input[name=password]", password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "login" not in url)

    def label_all_tasks(self, project_id=None):
        """Open a project, press Label All Tasks, and return the number of the task shown."""
        self._page.goto(f"{self._url}/projects/{project_id or self._project_id}/data")
        button = self._page.get_by_role("button", name="Label All Tasks").first
        button.click(timeout=60_000)
        return self.task()

    def task(self):
        """Return the number of the task shown, once its image is there."""
        image = self._page.locator(".konvajs-content canvas").first
        expect(image).to_be_visible(timeout=60_000)
        self._page.wait_for_timeout(1500)
        text = self._page.locator(".lsf-current-task__task-id").inner_text()
        return int(text.split()[0].removeprefix("#"))

    def paint(self, start, end):
        """Brush from one point to another; both (y, x) as fractions of the image."""
        self._page.get_by_text("lysosome", exact=True).first.click()
        box = self._page.locator(".konvajs-content").first.bounding_box()
        # The tile is square and fitted into the height of the canvas.
        side = min(box["width"], box["height"])
        (y0, x0), (y1, x1) = start, end
        mouse = self._page.mouse
        mouse.move(box["x"] + x0 * side, box["y"] + y0 * side)
        mouse.down()
        mouse.move(box["x"] + x1 * side, box["y"] + y1 * side, steps=12)
        mouse.up()
        self._page.wait_for_timeout(500)

    def next_slice(self):
        """Turn to the next page of a task that shows several slices."""
        arrow = self._page.locator(".lsf-pagination__btn_arrow-right").first
        arrow.click()
        self._page.wait_for_timeout(1500)

    def submit(self):
        with self._page.expect_response(
            lambda r: "/annotations" in r.url and r.request.method == "POST"
        ) as answer:
            self._page.get_by_role("button", name="Submit current annotation").click()
        assert answer.value.status == 201

    def regions(self):
        """Return how many regions the side panel lists."""
        return self._page.locator(".lsf-outliner-item__title").count()

    def status_page(self):
        """Open the backend's status page and return its text."""
        self._page.goto(self._backend)
        curve = self._page.get_by_role("img", name=f"Learning curve of {TITLE}")
        expect(curve).to_be_visible()
        self.shot("status")
        return self._page.inner_text("body")

    def change_strategy(self, name, retrain_every):
        """Fill in the form behind the status page; return what that page says then."""
        self._page.goto(self._backend)
        section = self._page.locator(f"#project-{self._project_id}")
        section.get_by_role("link", name="change").click()
        self.shot("options")
        self._page.get_by_label("Query strategy").select_option(name)
        self._page.get_by_label("Train after").fill(str(retrain_every))
        self._page.get_by_role("button", name="Apply").click()
        return section.locator(".strategy").inner_text()

    def change_strategy_from_another_site(self, name):
        """Send the same form from a page that is not the backend's; return the HTTP status."""
        self._page.goto(f"{self._url}/user/login/")
        address = f"{self._backend}/projects/{self._project_id}/options"
        with self._page.expect_response(address) as answer:
            self._page.evaluate(
                """([address, name]) => {
                    const form = document.createElement("form");
                    form.method = "post";
                    form.action = address;
                    const field = document.createElement("input");
                    field.name = "strategy";
                    field.value = name;
                    form.append(field);
                    document.body.append(form);
                    form.submit();
                }""",
                [address, name],
            )
        return answer.value.status

    def pick_spot(self, volume, spot):
        """Click a spot, (y, x) as fractions, of the slice that the uncertainty page shows first."""
        self._page.goto(self._backend)
        section = self._page.locator(f"#project-{self._project_id}")
        section.get_by_role("link", name=f"uncertainty of {volume}").click()
        picture = self._page.locator("input[name=spot]")
        box = picture.bounding_box()
        picture.click(position={"y": spot[0] * box["height"], "x": spot[1] * box["width"]})
        expect(self._page.get_by_role("img", name="The tile")).to_be_visible()
        self._page.wait_for_load_state("networkidle")
        self.shot("uncertainty")
        return self._page.locator(".picked").inner_text()

    def label_picked(self):
        """Make the tile at the spot a task, open it, and return its number in Label Studio."""
        self._page.get_by_role("button", name="Label this tile").click()
        self._page.get_by_role("link", name="in Label Studio").click()
        return self.task()

    def shot(self, name):
        """Take a picture for the documentation."""
        if self._shots:
            self._page.screenshot(path=Path(self._shots) / f"{name}.png")


@pytest.fixture(scope="module")
def page(stack, project):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGS)
        credentials = {
            "username": stack.settings.basic_auth_user,
            "password": stack.settings.basic_auth_pass,
            "origin": stack.settings.backend_url,
        }
        context = browser.new_context(
            viewport={"width": 1400, "height": 900}, http_credentials=credentials
        )
        yield Page(stack, project, context.new_page())
        browser.close()


def queue(stack, project):
    """Return the unlabelled tasks in the order of the serving version's scores."""
    version = stack.client.project(project["id"])["model_version"]
    predictions = stack.client._sdk.predictions.list(project=project["id"])
    scores = {p.task: p.score for p in predictions if p.model_version == version}
    open_tasks = [t["id"] for t in stack.client.tasks(project["id"]) if not t["is_labeled"]]
    assert set(open_tasks) <= set(scores)
    return sorted(open_tasks, key=scores.__getitem__)


def shown_prediction(stack, task, queue):
    """Return the only prediction that a task has of a queue."""
    found = stack.client._sdk.predictions.list(task=task)
    [prediction] = [each for each in found if each.model_version == queue]
    return prediction


def submitted(stack, task):
    """Return the only annotation of a task."""
    [annotation] = stack.client._json("GET", f"api/tasks/{task}/annotations/")
    return annotation


def test_the_loop(stack, project, page, truth, wait_until):
    client, project_id = stack.client, project["id"]
    registry = ModelRegistry(stack.data_root)
    label_map = LabelMap.from_config(project["label_config"])
    assert registry.current(project_id) is None

    # The expert paints in the page; the mask that training sees has the painted pixels.
    painted = page.label_all_tasks()
    page.paint((0.5, 0.25), (0.5, 0.75))
    page.shot("painting")
    page.submit()
    [task] = client.annotated_tasks(project_id)
    assert task["id"] == painted
    [(tile, mask)] = annotated_masks(task, label_map).items()
    assert tile == tile_of(task)
    assert mask[64, 34:94].all()
    assert not mask[:40].any()
    assert not mask[-40:].any()
    # It is corrected, for the model is to learn what is right.
    [annotation] = task["annotations"]
    client._sdk.annotations.update(
        annotation["id"], result=stack.true_regions(project, truth, task)
    )

    # After k = 3 submissions a version appears and orders the queue.
    others = stack.annotate(project, truth, 2)
    assert len({painted, *others}) == 3
    first = wait_until(lambda: registry.current(project_id), 300, "a version is there")
    wait_until(
        lambda: client.project(project_id)["model_version"] == f"{first} (spaced_entropy)",
        60,
        "it orders the queue",
    )
    assert set(registry.card(project_id, first).annotations) == {
        str(a["id"]) for t in client.annotated_tasks(project_id) for a in t["annotations"]
    }

    # A second round gives a second version that replaces the first, though not for an expert who
    # has a task open: what is submitted then is taken.
    opened = page.label_all_tasks()
    others = [t for t in client.tasks(project_id) if not t["is_labeled"] and t["id"] != opened]
    for task in others[:3]:
        client.annotate(task["id"], stack.true_regions(project, truth, task), 0.1)
    wait_until(
        lambda: client.project(project_id)["model_version"] != f"{first} (spaced_entropy)",
        300,
        "a second version serves",
    )
    second = registry.current(project_id)
    assert registry.card(project_id, second).parent == first
    assert second > first
    assert client.project(project_id)["model_version"] == f"{second} (spaced_entropy)"
    page.submit()
    before = shown_prediction(stack, opened, f"{first} (spaced_entropy)")
    assert submitted(stack, opened)["parent_prediction"] == before.id

    # Each annotation tested the version that served it, before the next learned from it.
    rounds = [registry.card(project_id, version).round for version in (first, second)]
    assert rounds[0][0].annotation == str(annotation["id"])
    assert [(each.strategy, each.live) for each in rounds[0]] == [(None, None)] * 3
    assert [each.strategy for each in rounds[1]] == ["spaced_entropy"] * 3
    assert all(each.live and each.before is None for each in rounds[1])
    done = stack.cli("effort", TITLE)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[5] for line in done.stdout.splitlines()[1:]] == list("123456")

    # The page serves the tasks as our scores rank them, predictions as masks to edit. One that the
    # model finds nothing in is confirmed as it is. No training comes in between.
    options = replace(client.loop_options(project_id), retrain_every=100)
    client.connect_backend(project_id, options)
    for ranked in queue(stack, project):
        served = page.label_all_tasks()
        assert served == ranked
        prediction = shown_prediction(stack, served, f"{second} (spaced_entropy)")
        assert page.regions() == len(prediction.result)
        if prediction.result:
            break
        page.submit()
    page.shot("prediction")
    page.submit()
    [kept] = [t for t in client.annotated_tasks(project_id) if t["id"] == served]
    [region] = prediction.result
    proposed = decode_mask(region["value"]["rle"], (128, 128)) > 0
    assert np.array_equal(annotated_masks(kept, label_map)[tile_of(kept)] == 1, proposed)


def test_what_is_painted_on_a_neighbour_counts_there(stack, page, truth, tmp_path):
    path = tmp_path / "neighbours.tif"
    tifffile.imwrite(path, lysosomes(truth.shape)[0], photometric="minisblack")
    arguments = [str(path), "--project", "Neighbours", "--labels", "lysosome", "--tile", "384"]
    done = stack.cli("import", *arguments, "--context", "1")
    assert done.returncode == 0, done.stderr
    project = stack.client.find_project("Neighbours")
    served = page.label_all_tasks(project["id"])
    page.next_slice()
    page.paint((0.5, 0.25), (0.5, 0.75))
    page.shot("neighbours")
    page.submit()
    [task] = stack.client.annotated_tasks(project["id"])
    assert task["id"] == served
    masks = annotated_masks(task, LabelMap.from_config(project["label_config"]))
    target = tile_of(task)
    painted = target.at(task["data"]["z_first"] + 1)
    assert masks[painted][192, 100:280].all()
    assert not masks[painted][:150].any()
    if painted != target:
        assert not masks[target].any()


def test_the_same_import_adds_nothing(stack, project, tmp_path, truth):
    path = tmp_path / "lysosomes.tif"
    tifffile.imwrite(path, lysosomes(truth.shape)[0], photometric="minisblack")
    before = stack.client.tasks(project["id"])
    done = stack.cli(
        "import", str(path), "--project", TITLE, "--labels", "lysosome", "--tile", "128"
    )
    assert done.returncode == 0, done.stderr
    assert "0 tasks added, 27 in all" in done.stdout
    assert stack.client.tasks(project["id"]) == before


def test_a_webhook_without_credentials_is_refused(stack, project):
    url = f"{stack.settings.backend_url}/webhook"
    event = {"action": "START_TRAINING", "project": {"id": project["id"]}}
    assert httpx.post(url, json=event).status_code == 401
    right = authorization_header(stack.settings)
    assert httpx.post(url, json=event, headers=right).status_code == 201


def test_the_status_page_shows_the_project(stack, project, page):
    text = page.status_page()
    assert TITLE in text
    assert ModelRegistry(stack.data_root).current(project["id"]) in text
    assert "of 27 tasks" in text
    assert "annotation effort (CSV)" in text
    assert re.search(r"Live IoU\s+\d\.\d\d", text)


def test_the_strategy_is_changed_behind_the_status_page(stack, project, page):
    before = stack.client.loop_options(project["id"])
    said = page.change_strategy("coreset", before.retrain_every + 1)
    assert said.startswith(f"coreset, a training after every {before.retrain_every + 1} annotat")
    changed = stack.client.loop_options(project["id"])
    assert changed == replace(before, strategy="coreset", retrain_every=before.retrain_every + 1)
    assert page.change_strategy_from_another_site("random") == 403
    assert stack.client.loop_options(project["id"]) == changed


def test_what_is_open_while_the_queue_is_ranked_anew_is_taken(stack, project, page, wait_until):
    client, project_id = stack.client, project["id"]
    registry = ModelRegistry(stack.data_root)

    def ranked_by(strategy):
        client.connect_backend(
            project_id, replace(client.loop_options(project_id), strategy=strategy)
        )

        def queue():
            name = f"{registry.current(project_id)} ({strategy})"
            return name if client.project(project_id)["model_version"] == name else None

        return wait_until(queue, 300, f"{strategy} orders the queue")

    before = ranked_by("entropy")
    opened = page.label_all_tasks()
    ranked_by("random")
    page.submit()
    annotation = submitted(stack, opened)
    prediction = shown_prediction(stack, opened, before)
    assert annotation["parent_prediction"] == prediction.id
    event = {"action": "START_TRAINING", "project": {"id": project_id}}
    url, headers = f"{stack.settings.backend_url}/webhook", authorization_header(stack.settings)
    httpx.post(url, json=event, headers=headers).raise_for_status()

    def is_learned():
        card = registry.card(project_id, registry.current(project_id))
        return str(annotation["id"]) in card.annotations

    wait_until(is_learned, 300, "it is learned from")


def test_a_spot_of_a_whole_volume_becomes_a_task(stack, project, page, tmp_path):
    # Towards the right of slice 3, and less so beside it, lysosomes fade away.
    shape = (5, 512, 512)
    sharp, faded = lysosomes(shape, seed=1)[0], synthetic_volume(shape, seed=1)[0]
    share = np.array([0, 0, 0.4, 1, 0.4])[:, None, None] * np.linspace(0, 1, shape[2])
    path = tmp_path / "block.tif"
    raw = np.rint(sharp * (1 - share) + faded * share).astype(np.uint8)
    tifffile.imwrite(path, raw, photometric="minisblack")
    arguments = [str(path), "--project", TITLE, "--labels", "lysosome", "--tile", "128"]
    done = stack.cli("import", *arguments, "--pool", "1")
    assert done.returncode == 0, done.stderr
    done = stack.cli("segment", "block", "--model", TITLE, "--uncertainty")
    assert done.returncode == 0, done.stderr
    before = {task["id"] for task in stack.client.tasks(project["id"])}
    picked = page.pick_spot("block", (0.3, 0.6))
    place = re.search(r"Slice (\d), rows 128 to 255, columns 256 to 383", picked)
    assert place, picked
    number = page.label_picked()
    [task] = [task for task in stack.client.tasks(project["id"]) if task["id"] not in before]
    assert task["id"] == number
    assert tile_of(task) == Tile("block", int(place[1]), 128, 256, 128, 128)
