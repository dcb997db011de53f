"""A project of the real Label Studio for each test."""

import httpx
import pytest

from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import task_data
from biosegment.tiles import Tile

CONFIG = labelling_config(["mitochondria"])
LABELS = LabelMap.from_config(CONFIG)


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


def tiles(count):
    return [Tile("sample", z, 0, 0, 8, 8) for z in range(count)]


def scored(pool, scores, version="0001-20261122T101530"):
    return [
        {"task": task["id"], "result": [], "score": score, "model_version": version}
        for task, score in zip(pool, scores, strict=True)
    ]
