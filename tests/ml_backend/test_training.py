import logging
import multiprocessing
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from biosegment.errors import NothingToTrainOnError
from biosegment.labels import UNKNOWN
from ml_backend import training
from ml_backend.dataset import LabelledTile
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.training import Parent, TrainingSpec, initial_network, train

SPEC = TrainingSpec(
    ("background", "disc"),
    widths=(4, 8, 8, 8, 16),
    first_steps=60,
    finetune_steps=5,
    learning_rate=1e-2,
    batch_size=8,
    crop_px=32,
)
QUICK = replace(SPEC, first_steps=3, finetune_steps=3)


def disc_tiles(count, seed=0, shape=(48, 40)):
    """Bright discs on dark, noisy ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    tiles = []
    for _ in range(count):
        y, x = rng.integers(12, 28, size=2)
        mask = ((rows - y) ** 2 + (columns - x) ** 2 < 80).astype(np.uint8)
        image = 0.3 + 0.4 * mask + 0.1 * rng.random(shape)
        tiles.append(LabelledTile(image.astype(np.float32), mask))
    return tiles


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def model():
    return train(disc_tiles(10), disc_tiles(4, seed=1), SPEC)


def test_learns_to_find_discs(model):
    assert model.metrics["mean_iou"] > 0.7
    assert model.metrics["iou"] == {"disc": model.metrics["mean_iou"]}
    assert model.metrics["tiles"] == 4
    assert model.labels == 14
    assert not model.network.training


def test_same_seed_same_weights():
    tiles = disc_tiles(4)
    first, second = (weights(train(tiles, [], QUICK).network) for _ in range(2))
    assert same(first, second)
    assert not same(first, weights(train(tiles, [], replace(QUICK, seed=1)).network))


def test_chance_elsewhere_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(disc_tiles(2), [], QUICK)
    assert torch.equal(torch.rand(3), expected)


def test_fine_tuning_starts_from_the_parent(model):
    parent = Parent(model.network, SPEC.classes)
    before = weights(model.network)
    tuned = train(disc_tiles(10), disc_tiles(4, seed=1), SPEC, parent)
    assert tuned.metrics["mean_iou"] > 0.7
    assert same(before, weights(model.network))


def test_steps_depend_on_the_parent(model):
    seen = []

    def note(done, total):
        seen.append((done, total))

    train(disc_tiles(2), [], SPEC, Parent(model.network, SPEC.classes), progress=note)
    assert seen == [(step, 5) for step in range(1, 6)]
    wider = replace(QUICK, widths=(8, 8, 8), finetune_steps=99)
    seen.clear()
    train(disc_tiles(2), [], wider, Parent(model.network, SPEC.classes), progress=note)
    assert seen[-1] == (3, 3)


def test_steps_go_with_the_newly_labelled_area():
    spec = TrainingSpec(("background", "disc"))
    tile = 128 * 128
    assert [spec.steps(n * tile, first=True) for n in (1, 10, 20, 500)] == [240, 240, 480, 2400]
    assert [spec.steps(n * tile, first=False) for n in (0, 10, 20, 500)] == [160, 160, 320, 1600]
    assert replace(spec, effort=0.5, max_growth=1).steps(500 * tile, first=True) == 120


def test_only_labels_new_to_the_parent_make_a_run_longer(model, monkeypatch):
    monkeypatch.setattr(training, "ROUND_PX", 2 * 48 * 40)
    seen = []

    def note(done, total):
        seen.append(total)

    for known, steps in ((0, 15), (2, 10), (6, 5)):
        parent = Parent(model.network, SPEC.classes, known)
        train(disc_tiles(6), [], SPEC, parent, progress=note)
        assert seen[-1] == steps


def test_classes_are_matched_by_name(model):
    spec = replace(SPEC, classes=("background", "new", "disc"))
    network = initial_network(spec, Parent(model.network, SPEC.classes))
    old = model.network.state_dict()
    for name in ("head.weight", "head.bias"):
        assert torch.equal(network.state_dict()[name][0], old[name][0])
        assert torch.equal(network.state_dict()[name][2], old[name][1])
    assert torch.equal(network.encoder[0][0].weight, model.network.encoder[0][0].weight)


def test_same_classes_take_over_everything(model):
    network = initial_network(SPEC, Parent(model.network, SPEC.classes))
    assert same(weights(network), weights(model.network))


def test_sparse_annotations_suffice():
    tiles = disc_tiles(10)
    rng = np.random.default_rng(0)
    sparse = [
        LabelledTile(t.image, np.where(rng.random(t.mask.shape) < 0.1, t.mask, np.uint8(UNKNOWN)))
        for t in tiles
    ]
    assert train(sparse, disc_tiles(4, seed=1), SPEC).metrics["mean_iou"] > 0.6


@pytest.mark.parametrize("tiles", [[], disc_tiles(1)], ids=["no tile", "nothing known"])
def test_nothing_to_train_on(tiles):
    unknown = [LabelledTile(t.image, np.full_like(t.mask, UNKNOWN)) for t in tiles]
    with pytest.raises(NothingToTrainOnError, match="nothing to train on"):
        train(unknown, [], QUICK)


def test_tiles_of_any_size():
    tiles = disc_tiles(2, shape=(48, 40)) + disc_tiles(1, shape=(33, 90))
    tiles.append(LabelledTile(np.zeros((5, 3), np.float32), np.zeros((5, 3), np.uint8)))
    train(tiles, tiles, QUICK)


def test_interrupt_reaches_the_caller(tmp_path):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(disc_tiles(2), [], QUICK, log_dir=tmp_path, progress=interrupt)
    assert {each: signal.getsignal(each) for each in before} == before


def test_trains_in_silence(capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        train(disc_tiles(2), [], QUICK)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []


def test_logs_loss_quality_and_pictures(tmp_path):
    train(disc_tiles(4), disc_tiles(2, seed=1), replace(SPEC, first_steps=30), log_dir=tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {"loss", "learning_rate"} <= {*events.Tags()["scalars"]}
    assert max(each.value for each in events.Scalars("learning_rate")) > 1e-3
    assert "validation_iou/disc" in events.Tags()["scalars"]
    assert events.Tags()["images"] == ["validation/0", "validation/1"]


def _train_in_child(connection):
    # As the worker does: signals as they are in the child of a fork that serves one job.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    connection.send(train(disc_tiles(2), disc_tiles(1), QUICK).metrics["tiles"])


def test_trains_in_a_forked_process():
    """In a fresh parent that has imported everything and trained nothing, as the worker's."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "ml_backend.training"])
    here, there = context.Pipe()
    child = context.Process(target=_train_in_child, args=(there,))
    child.start()
    assert here.poll(120)
    assert here.recv() == 1
    child.join()
    assert child.exitcode == 0


def test_default_spec_builds_the_default_network():
    spec = TrainingSpec(("background", "a"))
    assert initial_network(spec, None).spec == UNetSpec(2)
    assert isinstance(initial_network(spec, None), UNet)
