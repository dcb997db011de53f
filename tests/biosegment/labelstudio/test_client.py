import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from biosegment.errors import AuthenticationError, LabelStudioError, ProjectNotFoundError
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import (
    project_state,
    task_data,
    tile_of,
)
from biosegment.settings import Settings
from biosegment.tiles import Tile, tile_image_path
from tests.biosegment.labelstudio.conftest import LABELS, scored, tiles

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
