import json
import threading
from dataclasses import replace

import pytest
from rq import SimpleWorker
from rq.job import JobStatus

from biosegment.errors import QueueError
from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from ml_backend.jobs import JobQueue, connect
from ml_backend.lost_work import LostWork


@pytest.fixture
def connection(settings):
    with connect(settings, timeout_s=0.5) as connection:
        yield connection


@pytest.fixture
def jobs(connection):
    return JobQueue(connection)


def waiting(jobs):
    return jobs.queue.job_ids


def take(jobs):
    """Take the next job off the queue as a worker does; returns it, started."""
    job = jobs.job(jobs.queue.pop_job_id())
    job.set_status(JobStatus.STARTED)
    return job


def test_repeated_requests_make_one_job(jobs):
    ids = {jobs.request_turn(1) for _ in range(20)}
    assert waiting(jobs) == list(ids)
    assert len(ids) == 1


def test_requests_at_the_same_time_make_one_job(settings):
    ids = []

    def ask():
        with connect(settings) as connection:
            ids.append(JobQueue(connection).request_turn(1))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_each_project_has_its_own_turn(jobs):
    assert len({jobs.request_turn(number) for number in (1, 11, 111, 2)}) == 4
    assert len(waiting(jobs)) == 4


def test_one_more_turn_waits_while_one_runs(jobs):
    first = jobs.request_turn(1)
    assert take(jobs).id == first
    second = jobs.request_turn(1)
    assert second != first
    assert jobs.request_turn(1) == second
    assert waiting(jobs) == [second]


def test_start_training_waits_beside_a_turn_that_may_not_train(jobs):
    plain = jobs.request_turn(1)
    forced = jobs.request_turn(1, force=True)
    assert forced != plain
    assert jobs.request_turn(1, force=True) == forced
    assert waiting(jobs) == [plain, forced]
    assert jobs.job(forced).args == [1, True]


def test_a_forced_turn_serves_whoever_asks_for_any(jobs):
    forced = jobs.request_turn(1, force=True)
    assert jobs.request_turn(1) == forced
    assert waiting(jobs) == [forced]


def test_jobs_are_json_that_runs_no_code(jobs, connection):
    job = jobs.job(jobs.request_turn(3))
    data = connection.hget(job.key, "data")
    content = json.loads(_decompressed(data))
    assert content[0] == "ml_backend.jobs.turn"
    assert content[2] == [3, False]


def _decompressed(data):
    import zlib

    return zlib.decompress(data)


def test_a_job_is_found_by_its_id_and_by_its_project(jobs):
    job_id = jobs.request_turn(1)
    assert jobs.job(job_id).get_status() == JobStatus.QUEUED
    assert jobs.latest(1).id == job_id
    assert jobs.latest(2) is None
    assert jobs.running(1) is None
    assert jobs.job("turn-1-long-ago") is None
    assert jobs.job_ids() == {"queued": [job_id], "started": [], "finished": [], "failed": []}


def test_two_processes_never_run_the_same_project(jobs):
    with jobs.exclusive(1) as alone:
        assert alone
        with jobs.exclusive(1) as second:
            assert not second
        with jobs.exclusive(2) as other:
            assert other
        assert waiting(jobs) == []
    (again,) = waiting(jobs)
    assert jobs.job(again).args == [1, False]


def test_any_number_of_processes_turned_away_lead_to_one_more_turn(jobs):
    with jobs.exclusive(1):
        for _ in range(5):
            with jobs.exclusive(1) as second:
                assert not second
    assert len(waiting(jobs)) == 1


def test_a_forced_turn_that_is_turned_away_is_not_forgotten(jobs):
    with jobs.exclusive(1):
        with jobs.exclusive(1, force=True) as second:
            assert not second
        with jobs.exclusive(1) as third:
            assert not third
    (again,) = waiting(jobs)
    assert jobs.job(again).args == [1, True]


def test_nobody_turned_away_leads_to_no_other_turn(jobs):
    for _ in range(3):
        with jobs.exclusive(1) as alone:
            assert alone
    assert waiting(jobs) == []


def test_a_turn_that_fails_lets_go(jobs):
    with pytest.raises(ValueError, match="no"), jobs.exclusive(1):
        raise ValueError("no")
    with jobs.exclusive(1) as alone:
        assert alone


def test_a_lock_survives_as_long_as_its_holder(jobs, connection):
    with jobs.exclusive(1):
        assert 50 < connection.ttl("biosegment:running:1") <= 60


def test_a_queue_that_does_not_answer_is_one_sentence(jobs, redis_process):
    redis_process.stop()
    for call in (
        lambda: jobs.request_turn(1),
        lambda: jobs.job("a"),
        lambda: jobs.latest(1),
        lambda: jobs.running(1),
        jobs.job_ids,
    ):
        with pytest.raises(QueueError, match=r"^The job queue \(Redis at .*\) does not answer"):
            call()
    redis_process.start()
    assert jobs.request_turn(1)


def test_the_sentence_hides_the_password(settings):
    secret = replace(settings, redis_url="redis://:nobody-sees@127.0.0.1:1/0")
    with connect(secret, timeout_s=0.5) as connection, pytest.raises(QueueError) as caught:
        JobQueue(connection).job_ids()
    assert "127.0.0.1:1" in str(caught.value)
    assert "nobody-sees" not in str(caught.value)


@pytest.mark.stack
def test_what_was_lost_with_redis_is_found_again(stack, jobs):
    """A queue that knows of nothing asks for a turn of each connected project, once."""
    with LabelStudioClient(stack.settings) as client:
        config = '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">'
        config += '<Label value="cell"/></BrushLabels></View>'
        number = client.create_project("Lost with Redis", config)["id"]
        unconnected = client.create_project("Not connected", config)["id"]
        client.connect_backend(number, stack.settings.loop)
        LostWork(jobs).find(client)
        LostWork(jobs).find(client)
    asked = [jobs.job(each).args[0] for each in waiting(jobs)]
    assert asked.count(number) == 1
    assert unconnected not in asked


@pytest.mark.stack
def test_many_projects_are_looked_at_closely_in_turn(stack, jobs, monkeypatch):
    looked_at = []
    last_change = LabelStudioClient.last_change

    def noted(client, number):
        looked_at.append(number)
        return last_change(client, number)

    monkeypatch.setattr(LabelStudioClient, "last_change", noted)
    with LabelStudioClient(stack.settings) as client:
        made = [
            client.create_project(f"One of many {i}", labelling_config(["cell"]))["id"]
            for i in range(3)
        ]
        for number in made:
            client.connect_backend(number, stack.settings.loop)
        connected = client.connected_projects()
        lost_work = LostWork(jobs, closely_s=0)
        for _ in range(2 * len(connected)):
            lost_work.find(client)
        for number in made:
            client._request("DELETE", f"api/projects/{number}/")
    assert looked_at == 2 * connected
    assert set(made) <= set(connected)


# Long jobs, which give way to turns


def test_repeated_requests_make_one_search(jobs):
    first = jobs.request_tuning(1, 20)
    assert jobs.request_tuning(1, 20) == first
    assert jobs.request_tuning(11, 20) != first
    assert jobs.request_turn(1) not in {first}
    assert jobs.job(first).args == [1, 20, False]


def test_only_turns_make_a_search_give_way(jobs):
    jobs.request_tuning(1, 20)
    assert not jobs.turn_waits()
    jobs.request_turn(2)
    assert jobs.turn_waits()


def test_a_search_does_not_hold_up_a_turn_of_its_project(jobs):
    with jobs.exclusive_tuning(1), jobs.exclusive(1) as alone:
        assert alone


def test_a_worker_is_there_while_it_lives(jobs):
    assert not jobs.has_worker()
    queue = jobs.queue
    worker = SimpleWorker([queue], connection=queue.connection, serializer=queue.serializer)
    worker.register_birth()
    assert jobs.has_worker()
    jobs.request_tuning(1, 20)
    assert jobs.has_worker()
    # What a killed one leaves behind once its heartbeat has run out.
    queue.connection.delete(worker.key)
    assert not jobs.has_worker()


def order(volume, name, **changes):
    plan = {"project_id": 3, "version": "0001-20261122T101530", "flips": False} | changes
    return {"volume": volume, "name": name, "plan": plan, "overwrite": False}


def test_the_same_segmentation_is_made_once_and_every_other_for_itself(jobs):
    orders = [
        order("a.b", "c"), order("a.b", "c-flips"), order("a", "b-c"), order("a-b", "c"),
        order("a.b", "c", flips=True),
    ]  # fmt: skip
    ids = [jobs.request_segmentation(each) for each in orders]
    assert len(set(ids)) == len(orders)
    assert [jobs.request_segmentation(each) for each in reversed(orders)] == ids[::-1]
    assert [jobs.job(each).args[0] for each in ids] == orders
    assert jobs.latest_segmentation(3).id == ids[-1]
    assert jobs.latest_segmentation(4) is None
