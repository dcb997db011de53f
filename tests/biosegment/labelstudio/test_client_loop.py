"""A project is connected to the loop: webhook, options, views."""

from dataclasses import replace

import httpx
import pytest

from biosegment.labelstudio.connection import authorization_header
from biosegment.settings import LoopOptions, Settings


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
