import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from biosegment.errors import ClusterError
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore, volume_path
from biosegment.unfinished_labels import UnfinishedLabels
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.segmentation import Segmentation, SegmentationPlan
from ml_backend.segmentation_cluster import cluster, run_on
from ml_backend.training import TrainedModel, TrainingSpec

SHAPE = (24, 96, 128)
PLAN = SegmentationPlan(1, "0001-20261122T101530", uncertainty=True)


def quiet(*_):
    pass


@pytest.fixture(params=[False, True], ids=["slices", "three axes"])
def segmentation(tmp_path, request):
    path = volume_path(tmp_path, "em")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, SHAPE, np.uint8, VoxelSize(8, 8, 8))
    store.write(Roi.whole(SHAPE), np.random.default_rng(0).integers(0, 256, SHAPE, "uint8"))
    store.finish((0.0, 255.0), {})
    torch.manual_seed(0)
    spec = TrainingSpec(("background", "cell"), widths=(4, 8))
    card = ModelCard.of(
        TrainedModel(UNet(UNetSpec(2, widths=(4, 8))).eval(), spec, 1, {}),
        strategy="random", annotations={}, left_out={}, lead_time_s=0.0, parent=None,
    )  # fmt: skip
    registry = ModelRegistry(tmp_path)
    registry.save(1, PLAN.version, UNet(UNetSpec(2, widths=(4, 8))), card)
    plan = replace(PLAN, three_axes=request.param)
    return Segmentation(VolumeStore.open(tmp_path, "em"), registry, plan)


def whole(segmentation, name):
    return segmentation.store.read_labels(name, Roi.whole(SHAPE))


def test_workers_make_what_one_process_makes_also_when_one_of_them_dies(segmentation, monkeypatch):
    with segmentation.begin("alone") as labels:
        segmentation.run(labels, quiet)
    mark = UnfinishedLabels.mark
    with cluster(2, None) as client:
        pids = list(client.run(os.getpid).values())

        def mark_and_kill(self, unit):
            mark(self, unit)
            if len(self.missing()) == len(segmentation.units) - 3:
                os.kill(pids[0], signal.SIGKILL)

        monkeypatch.setattr(UnfinishedLabels, "mark", mark_and_kill)
        reports = []
        with segmentation.begin("together") as labels:
            run_on(client, segmentation, labels, lambda *report: reports.append(report))
    np.testing.assert_array_equal(whole(segmentation, "together"), whole(segmentation, "alone"))
    total = len(segmentation.stages) * SHAPE[0]
    assert reports[-1] == (total, total)
    assert set(segmentation.store.label_names) == {"alone", "together"}


def test_two_clusters_on_one_machine_keep_out_of_each_other_s_way():
    with cluster(1, None) as one, cluster(1, None) as other:
        assert set(one.run(os.getpid).values()) != set(other.run(os.getpid).values())


def test_what_fails_on_a_worker_is_told_and_what_is_done_is_kept(segmentation):
    gone = replace(segmentation.plan, version="0009-20261122T101530")
    with cluster(1, None) as client, segmentation.begin("cells") as labels:
        segmentation.plan = gone
        with pytest.raises(ClusterError, match="has no model version"):
            run_on(client, segmentation, labels, quiet)
        assert len(labels.missing()) == len(segmentation.units)
    assert segmentation.store.label_names == ()


def test_a_scheduler_without_workers_or_answer_is_told():
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        pytest.raises(ClusterError, match="no workers"),
        cluster(None, empty.scheduler_address),
    ):
        pass
    with pytest.raises(ClusterError, match="nothing answers"), cluster(None, "tcp://127.0.0.1:1"):
        pass
