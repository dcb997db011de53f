"""What the status page remembers of projects, and when it asks again."""

import pytest

from biosegment.labels import labelling_config
from biosegment.settings import LoopOptions
from ml_backend import project_facts
from ml_backend.project_facts import ProjectFacts

pytestmark = pytest.mark.stack


@pytest.fixture
def make_project(client, make_task):
    """Make a connected project of one task."""
    numbers = []

    def make(strategy):
        number = client.create_project("Remembered", labelling_config(["mitochondria"]))["id"]
        numbers.append(number)
        client.create_tasks(number, [make_task(0, z=0, x=0)["data"]])
        client.connect_backend(number, LoopOptions(strategy))
        return number

    yield make
    for number in numbers:
        client._request("DELETE", f"api/projects/{number}/")


def told(facts, *numbers):
    """Return strategy and length of the queue's head of each project."""
    projects = {project["id"]: project for project in facts.client.projects()}
    found = facts.of([projects[number] for number in numbers])
    return [(each.options.strategy, len(each.head)) for each in found]


def test_a_head_is_asked_for_when_the_counts_change(client, make_project, make_task):
    number, facts = make_project("random"), ProjectFacts(client)
    assert told(facts, number) == [("random", 1)]
    client.connect_backend(number, LoopOptions("bald"))
    client.create_tasks(number, [make_task(0, z=1, x=0)["data"]])
    assert told(facts, number) == [("random", 2)]
    facts.forget(number)
    assert told(facts, number) == [("bald", 2)]


def test_what_is_stale_is_asked_for_a_few_projects_at_a_time(client, make_project, monkeypatch):
    monkeypatch.setattr(project_facts, "STALE_S", -1.0)
    monkeypatch.setattr(project_facts, "AT_A_TIME", 1)
    numbers, facts = [make_project("random") for _ in range(3)], ProjectFacts(client)
    assert told(facts, *numbers) == [("random", 1)] * 3
    for number in numbers:
        client.connect_backend(number, LoopOptions("bald"))
    changed = [[strategy for strategy, _ in told(facts, *numbers)].count("bald") for _ in range(3)]
    assert changed == [1, 2, 3]
