import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import numpy as np
import pytest

from biosegment.errors import AuthenticationError, LabelStudioError, ProjectNotFoundError
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import (
    LabelStudioClient,
    authorization_header,
)
from biosegment.labelstudio.payloads import (
    annotated_masks,
    prediction_regions,
    project_state,
    task_data,
    tile_of,
)
from biosegment.settings import LoopOptions, Settings
from biosegment.tiles import Tile, tile_image_path

CONFIG = labelling_config(["mitochondria"])
LABELS = LabelMap.from_config(CONFIG)


def tiles(count):
    return [Tile("sample", z, 0, 0, 8, 8) for z in range(count)]


@pytest.fixture
def client(stack):
    with LabelStudioClient(stack.settings) as client:
        yield client


@pytest.fixture
def api(stack):
    """Label Studio without our client."""
    headers = {"Authorization": f"Token {stack.settings.label_studio_api_key}"}
    with httpx.Client(base_url=stack.settings.label_studio_url, headers=headers, timeout=60) as api:
        yield api


@pytest.fixture
def project(client, api, request):
    """A project of its own for each test."""
    number = client.create_project(request.node.name[-50:], CONFIG)["id"]
    yield number
    api.delete(f"/api/projects/{number}/").raise_for_status()


@pytest.fixture
def pool(client, project):
    """Five tasks, as they are in Label Studio."""
    client.create_tasks(project, [task_data(tile, context=0, depth=5) for tile in tiles(5)])
    return client.tasks(project)


def scored(pool, scores, version="0001-20261122T101530"):
    return [
        {"task": task["id"], "result": [], "score": score, "model_version": version}
        for task, score in zip(pool, scores, strict=True)
    ]


# Getting in


@pytest.mark.stack
def test_the_token_of_the_stack_is_taken(client):
    client.check()


@pytest.mark.stack
@pytest.mark.parametrize("token", ["", "wrong", "0" * 40])
def test_a_wrong_token_is_one_sentence(stack, token):
    settings = replace(stack.settings, label_studio_api_key=token)
    with LabelStudioClient(settings) as client, pytest.raises(AuthenticationError) as caught:
        client.check()
    assert "refused the token; set LABEL_STUDIO_API_KEY" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # the SDK's
def test_an_access_token_is_taken(stack, api):
    made = api.post("/api/token/")
    made.raise_for_status()
    token = made.json()["token"]  # Label Studio has at most one for a user
    assert token.count(".") == 2
    with LabelStudioClient(replace(stack.settings, label_studio_api_key=token)) as client:
        client.check()
        assert isinstance(client.projects(), list)
    api.post("/api/token/blacklist/", json={"refresh": token}).raise_for_status()
    with (
        LabelStudioClient(replace(stack.settings, label_studio_api_key=token)) as client,
        pytest.raises(AuthenticationError),
    ):
        client.check()


def test_an_access_token_that_is_over_is_one_sentence():
    # {"token_type": "refresh", "exp": 1}
    over = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsImV4cCI6MX0.c2lnbmF0dXJl"
    with pytest.raises(AuthenticationError, match="refused the token"):
        LabelStudioClient(Settings(label_studio_api_key=over))


def test_a_label_studio_that_does_not_answer_is_one_sentence():
    settings = Settings(label_studio_url="http://127.0.0.1:1", label_studio_api_key="abc")
    with LabelStudioClient(settings) as client:
        download = partial(client.download, "/data/a.png")
        for call in (client.check, client.connected_projects, download):
            with pytest.raises(LabelStudioError, match=r"^Label Studio at http://127.0.0.1:1: it "):
                call()


class Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>a home page</html>")

    def log_message(self, *_):
        pass


def test_a_server_that_is_not_label_studio_is_one_sentence():
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings = Settings(label_studio_url=f"http://127.0.0.1:{server.server_port}")
        with LabelStudioClient(settings) as client:
            for call in (client.check, client.projects):
                with pytest.raises(LabelStudioError, match="is not Label Studio"):
                    call()
            with pytest.raises(LabelStudioError):
                client.connected_projects()
        server.shutdown()
        thread.join()


# Projects


@pytest.mark.stack
def test_a_project_is_found_by_title_and_by_number(client, project):
    found = client.project(project)
    assert found["sampling"] == "Uncertainty sampling"
    assert found["show_collab_predictions"] is True
    assert LabelMap.from_config(found["label_config"]) == LABELS
    assert client.find_project(found["title"])["id"] == project
    assert client.find_project(str(project))["id"] == project


@pytest.mark.stack
def test_a_project_that_does_not_exist_is_named_with_those_that_do(client, project):
    with pytest.raises(ProjectNotFoundError, match="no project 'Nowhere'") as caught:
        client.find_project("Nowhere")
    assert f"(number {project})" in str(caught.value)
    with pytest.raises(LabelStudioError, match="404"):
        client.project(10**6)


@pytest.mark.stack
def test_a_configuration_that_label_studio_refuses_is_one_sentence(client):
    with pytest.raises(LabelStudioError) as caught:
        client.create_project("Broken", "<View><Image/></View>")
    assert "400" in str(caught.value)
    assert "\n" not in str(caught.value)


# Tasks and the queue


@pytest.mark.stack
def test_many_tasks_come_back_in_pages(client, project):
    told = []
    wanted = tiles(1001)
    data = [task_data(tile, context=0, depth=2000) for tile in wanted]
    client.create_tasks(project, data, lambda *now: told.append(now))
    assert told == [(500, 1001), (1000, 1001), (1001, 1001)]
    found = client.tasks(project)
    assert [tile_of(task) for task in found] == wanted
    assert len({task["id"] for task in found}) == 1001
    assert not any(task["is_labeled"] for task in found)


@pytest.mark.stack
def test_a_full_page_of_tasks_is_not_followed_by_an_empty_one(client, project):
    data = [task_data(tile, context=0, depth=500) for tile in tiles(500)]
    client.create_tasks(project, data)
    assert len(client.tasks(project)) == 500


@pytest.mark.stack
def test_tasks_are_found_by_their_data(client, project):
    wanted = [Tile("a.b", z, y, 0, 8, 8) for z in (5, 15, 150) for y in (0, 8, 16)]
    others = [Tile("a", 15, 8, 0, 8, 8), Tile("a.b2", 15, 8, 0, 8, 8)]
    data = [task_data(tile, context=0, depth=200) for tile in wanted + others]
    # One that no import made.
    client.create_tasks(project, [*data, {"image": "/data/upload/1/cells.png"}])

    def found(limit=None, **data):
        return [tile_of(task) for task in client.tasks_with(project, data, limit)]

    assert found(volume="a.b") == wanted
    assert found(volume="a.b", z=15) == wanted[3:6]
    assert found(volume="a.b", z=5, y=(1, 16)) == wanted[1:3]
    assert found(volume="a.b", y=(8, 8)) == wanted[1::3]
    assert len(found(limit=4, volume="a.b")) == 4
    assert found(volume="b") == []
    assert len(client.tasks_with(project, {})) == len(data) + 1


@pytest.mark.stack
def test_a_project_without_tasks(client, project):
    assert client.tasks(project) == []
    assert client.annotated_tasks(project) == []
    assert client.next_task(project) is None


@pytest.mark.stack
def test_the_lowest_score_of_the_serving_version_is_served_first(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5, 0.1, 0.9, 0.3, 0.7]))
    client.set_model_version(project, "0001-20261122T101530")
    served = []
    while task := client.next_task(project):
        served.append(task["id"])
        client.annotate(task["id"], [], 1.0)
    assert served == [pool[i]["id"] for i in (1, 3, 0, 4, 2)]


@pytest.mark.stack
def test_predictions_of_other_versions_order_nothing(client, project, pool):
    """Also once this user has labelled some, which Label Studio looks up in their predictions."""
    client.import_predictions(project, scored(pool, [0.1, 0.2, 0.3, 0.4, 0.5], "before"))
    client.import_predictions(project, scored(pool, [0.5, 0.3, 0.9, 0.1, 0.7], "serving"))
    client.import_predictions(project, scored(pool, [0.0, 0.9, 0.1, 0.8, 0.2], "after"))
    client.set_model_version(project, "serving")
    served = []
    while task := client.next_task(project):
        assert [each["model_version"] for each in task["predictions"]] == ["serving"]
        [head] = client.head_of_queue(project, 1)
        assert head["id"] == task["id"]
        served.append(task["id"])
        client.annotate(task["id"], [], 1.0)
    assert served == [pool[i]["id"] for i in (3, 1, 0, 4, 2)]


@pytest.mark.stack
def test_the_head_of_the_queue(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5, 0.1, 0.9, 0.3, 0.7]))
    client.set_model_version(project, "0001-20261122T101530")
    client.annotate(pool[1]["id"], [], 1.0)
    head = client.head_of_queue(project, 2)
    assert [task["id"] for task in head] == [pool[3]["id"], pool[0]["id"]]
    assert [task["predictions_score"] for task in head] == pytest.approx([0.3, 0.5])
    assert tile_of(head[0]) == tile_of(pool[3])
    for task in pool:
        client.annotate(task["id"], [], 1.0)
    assert client.head_of_queue(project, 2) == []


@pytest.mark.stack
def test_tasks_that_are_deleted_meanwhile_leave_one_score_to_each_other_task(client, project):
    data = [task_data(tile, context=0, depth=1100) for tile in tiles(1100)]
    client.create_tasks(project, data)
    pool = client.tasks(project)
    gone = [pool[i]["id"] for i in (0, 700, 701)]
    for number in gone:
        client._request("DELETE", f"api/tasks/{number}/")
    steps = []
    client.import_predictions(
        project, scored(pool, [0.5] * len(pool)), lambda *step: steps.append(step)
    )
    assert steps[-1] == (1100, 1100)
    params = {"project": project, "page_size": 1100, "fields": "all", "include": "id,predictions"}
    found = client._json("GET", "api/tasks/", params=params)["tasks"]
    assert len(found) == 1097
    assert {len(task["predictions"]) for task in found} == {1}


@pytest.mark.stack
def test_old_predictions_go_and_new_ones_stay(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5] * 5, "old"))
    client.import_predictions(project, scored(pool[:2], [0.4] * 2, "new"))
    assert sorted(client.model_versions(project)) == ["new", "old"]
    tasks = [task["id"] for task in pool]
    assert client.predicted_tasks(project, "old") == set(tasks)
    assert [client.awaits_predictions(project, each) for each in ("old", "new")] == [False, True]
    for number in tasks[2:]:
        client.annotate(number, [], 1.0)
    assert not client.awaits_predictions(project, "new")
    assert client.predicted_tasks(project, "new") == set(tasks[:2])
    client.delete_predictions(project, "old")
    assert client.model_versions(project) == ["new"]
    assert client.predicted_tasks(project, "old") == set()
    assert client.predicted_tasks(project, "new") == set(tasks[:2])


@pytest.mark.stack
def test_a_predicted_mask_survives_label_studio(client, project, pool):
    mask = np.random.default_rng(0).integers(0, 2, (8, 8), "uint8")
    regions = prediction_regions([mask], ["background", "mitochondria"], LABELS)
    client.import_predictions(project, [scored(pool[:1], [0.5])[0] | {"result": regions}])
    client.annotate(pool[0]["id"], client.next_task(project) and regions, 12.5)
    (task,) = client.annotated_tasks(project)
    assert task["id"] == pool[0]["id"]
    np.testing.assert_array_equal(annotated_masks(task, LABELS)[tile_of(task)], mask)
    (annotation,) = task["annotations"]
    assert annotation["lead_time"] == 12.5
    assert annotation["updated_at"]


@pytest.mark.stack
def test_a_project_tells_when_it_changed(client, api, project, pool):
    def state():
        return project_state(client.project(project), client.last_change(project))

    before = state()
    client.import_predictions(project, scored(pool, [0.5] * 5))
    assert state() == before
    annotation = client.annotate(pool[0]["id"], [], 1.0)
    submitted = state()
    assert submitted != before
    address = f"/api/annotations/{annotation['id']}/"
    api.patch(address, json={"lead_time": 2.0}).raise_for_status()
    assert state() != submitted


@pytest.mark.stack
def test_what_comes_and_goes_between_pages_hides_and_doubles_nothing(
    client, project, pool, monkeypatch
):
    monkeypatch.setattr("biosegment.labelstudio.client.FULL_PAGE", 2)
    for task in pool[1:]:
        client.annotate(task["id"], [], 1.0)

    def somebody_annotates(done, total):
        if done == 2:
            client.annotate(pool[0]["id"], [], 1.0)

    def somebody_deletes(done, total):
        if done == 2:
            client._request("DELETE", f"api/tasks/{pool[0]['id']}/")

    numbers = [task["id"] for task in pool]
    found = client.annotated_tasks(project, somebody_annotates)
    assert [task["id"] for task in found] == numbers[1:]
    found = client.annotated_tasks(project, somebody_deletes)
    assert [task["id"] for task in found] == numbers
    assert [task["id"] for task in client.tasks(project)] == numbers[1:]


@pytest.mark.stack
def test_predictions_of_deleted_tasks_are_left_out(client, project, pool):
    client._request("DELETE", f"api/tasks/{pool[2]['id']}/")
    client.import_predictions(project, scored(pool, [0.5] * 5, "serving"))
    present = {task["id"] for task in pool} - {pool[2]["id"]}
    assert client.predicted_tasks(project, "serving") == present
    with pytest.raises(LabelStudioError, match="404"):
        client.import_predictions(project + 1000, scored(pool, [0.5] * 5))


# Images


@pytest.mark.stack
def test_images_are_served_once_their_folder_is_connected(client, stack, project):
    (tile,) = tiles(1)
    path = stack.data_root / tile_image_path(tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"an image")
    address = task_data(tile, context=0, depth=1)["image"]
    folder = str(stack.settings.label_studio_tiles / tile.volume)
    for _ in range(2):
        client.connect_storage(project, folder)
    assert client.download(address) == b"an image"
    with pytest.raises(LabelStudioError):
        client.download(address.replace("z00000", "z00099"))
    with pytest.raises(LabelStudioError):
        client.download("/data/local-files/?d=../stack/secrets.env")


@pytest.mark.stack
def test_a_folder_outside_is_refused(client, project, tmp_path):
    with pytest.raises(LabelStudioError) as caught:
        client.connect_storage(project, str(tmp_path))
    assert "\n" not in str(caught.value)


# The connection of the loop


def hooks_of(api, project):
    return api.get("/api/webhooks/", params={"project": project}).json()


@pytest.mark.stack
def test_the_loop_is_connected_once(client, stack, api, project):
    assert client.loop_options(project) is None
    assert project not in client.connected_projects()
    for options in (LoopOptions("random", 7), LoopOptions("entropy", 9)):
        for _ in range(2):
            client.connect_backend(project, options)
        assert client.loop_options(project) == options
    (backend,) = api.get("/api/ml", params={"project": project}).json()
    assert backend["url"] == stack.settings.backend_url
    (hook,) = hooks_of(api, project)
    assert hook["headers"] == authorization_header(stack.settings)
    assert hook["send_for_all_actions"]
    assert project in client.connected_projects()


@pytest.mark.stack
@pytest.mark.parametrize("all_of_them", [False, True])
@pytest.mark.parametrize("change", [{"headers": {}}, {"is_active": False}])
def test_a_webhook_that_was_changed_is_mended(client, stack, api, project, change, all_of_them):
    client.connect_backend(project, stack.settings.loop)
    (hook,) = hooks_of(api, project)
    api.patch(f"/api/webhooks/{hook['id']}/", json=change).raise_for_status()
    if all_of_them:
        assert project in client.connected_projects(mend=True)
    else:
        client.connect_webhook(project)
    (mended,) = hooks_of(api, project)
    assert mended["headers"] == authorization_header(stack.settings)
    assert mended["is_active"]


@pytest.mark.stack
def test_a_webhook_that_was_removed_is_made_again(client, stack, api, project):
    client.connect_backend(project, stack.settings.loop)
    (hook,) = hooks_of(api, project)
    api.delete(f"/api/webhooks/{hook['id']}/").raise_for_status()
    client.connect_backend(project, stack.settings.loop)
    assert len(hooks_of(api, project)) == 1


@pytest.mark.stack
def test_options_that_somebody_typed_in_the_page_hold(client, stack, api, project):
    client.connect_backend(project, stack.settings.loop)
    (backend,) = api.get("/api/ml", params={"project": project}).json()
    form = {
        "project": project,
        "url": backend["url"],
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": stack.settings.basic_auth_user,
        "basic_auth_pass": stack.settings.basic_auth_pass,
        "extra_params": {"strategy": "random"},
    }
    api.patch(f"/api/ml/{backend['id']}", json=form).raise_for_status()
    assert client.loop_options(project) == replace(stack.settings.loop, strategy="random")


@pytest.mark.stack
def test_the_views_are_made_once(client, api, project):
    for _ in range(2):
        client.add_views(project)
    views = api.get("/api/dm/views/", params={"project": project}).json()
    titles = [view["data"]["title"] for view in views]
    assert sorted(titles) == sorted(set(titles))
    (by_rank,) = [view for view in views if view["data"]["title"] == "By rank"]
    assert by_rank["data"]["ordering"] == ["tasks:predictions_score"]


def test_credentials_of_the_webhook():
    settings = Settings(basic_auth_user="backend", basic_auth_pass="pässword:1")
    header = authorization_header(settings)["Authorization"]
    expected = httpx.BasicAuth("backend", "pässword:1")._auth_header
    assert header == expected
    assert authorization_header(Settings()) == {}
