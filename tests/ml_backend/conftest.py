"""Volumes, networks and web servers of a few pixels, all of them real."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torch import nn

from biosegment.geometry import Roi
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import prediction_regions, task_data
from biosegment.store import VolumeStore, volume_path
from biosegment.tiles import Tile
from ml_backend.app import create_app
from ml_backend.metrics import Metrics
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.rounds import AnnotationRecord, Overlap
from ml_backend.training import TrainedModel, TrainingSpec

CLASSES = ("background", "mitochondria")
SHAPE = (5, 64, 96)
DARK, UNSURE, BRIGHT = 0, 159, 255
METRICS: Metrics = {"iou": {"mitochondria": 0.75}, "mean_iou": 0.75, "tiles": 3}


def bright_finder():
    """Return a network that calls a pixel mitochondria if it is bright, unsure at 5/8 of white."""
    network = UNet(UNetSpec(2, widths=(4, 8), dropout=0))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            for values in layer.parameters():
                values.data.zero_()
    for block in (network.encoder[0], network.decoder[0]):
        for layer in block:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data[0, 0, 1, 1] = 1
    network.head.weight.data[1, 0] = 10
    network.head.bias.data[1] = -5
    return network.eval()


@pytest.fixture
def finder():
    return bright_finder()


@pytest.fixture
def label_map():
    return LabelMap.from_config(labelling_config(CLASSES[1:]))


@pytest.fixture
def registry(settings):
    return ModelRegistry(settings.data_root)


@pytest.fixture
def serve(registry):
    """Save a network as a project's next version and promote it; returns the version."""

    def add(project_id, network=None, annotations=4, parent=None, strategy="entropy", round=()):
        network = network or bright_finder()
        spec = TrainingSpec(CLASSES, widths=network.spec.widths)
        known = range(annotations) if isinstance(annotations, int) else annotations
        card = ModelCard.of(
            TrainedModel(network, spec, 3, METRICS),
            strategy=strategy,
            annotations={str(i): "2026-11-22T10:00:00Z" for i in known},
            left_out={},
            lead_time_s=12.0,
            parent=parent,
            round=round,
        )
        version = registry.next_version(project_id)
        registry.save(project_id, version, network, card)
        registry.promote(project_id, version)
        return version

    return add


@pytest.fixture
def record():
    """Make a record of an annotation from ``(predicted, annotated, kept)`` of one class."""

    def make(number, live=None, before=None, lead_time_s=4.0):
        found = [each and {"mitochondria": Overlap(*each)} for each in (live, before)]
        return AnnotationRecord(str(number), 100 + number, lead_time_s, "entropy", *found)

    return make


@pytest.fixture
def serve_rounds(serve, record):
    """Serve three versions: 4 labels, then 2 that test the first, then 2 that test the second."""

    def add(project_id):
        first = serve(project_id, annotations=4, round=[record(i) for i in range(4)])
        tested = [record(4, (10, 10, 5)), record(5, (10, 10, 8))]
        second = serve(project_id, annotations=6, parent=first, round=tested)
        tested = [record(6, (10, 10, 9), (10, 10, 5)), record(7, (10, 10, 8), (10, 10, 6))]
        return first, second, serve(project_id, annotations=8, parent=second, round=tested)

    return add


@pytest.fixture
def volume(settings):
    """A dark volume with bright blobs; slice 3 is dark, unsure and bright in thirds along x."""
    block = np.zeros(SHAPE, np.uint8)
    block[:3, 8:24, 8:24] = BRIGHT
    block[:, 60:62, 90:92] = BRIGHT
    block[3] = np.repeat([DARK, UNSURE, BRIGHT], 32)
    path = volume_path(settings.data_root, "sample")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, SHAPE, np.uint8)
    store.write(Roi.whole(SHAPE), block)
    store.finish((0, 255), {"name": "made here"})
    return block


@pytest.fixture
def make_task():
    """Make a task that shows a tile of the volume."""

    def make(number, z=0, y=0, x=0, height=32, width=32, context=0, volume="sample"):
        tile = Tile(volume, z, y, x, height, width)
        data = task_data(tile, context=context, depth=SHAPE[0])
        return {"id": number, "data": data, "annotations": [], "predictions": []}

    return make


@pytest.fixture
def annotate(label_map):
    """Add an annotation to a task: a mask a shown slice, None where nothing is painted."""

    def add(task, number, *masks, label_map=label_map, **fields):
        size = (task["data"]["height"], task["data"]["width"])
        painted = [np.zeros(size, np.uint8) if mask is None else mask for mask in masks]
        names = ["unpainted", *label_map.names[1:], "background"]
        task["annotations"].append(
            {
                "id": number,
                "created_at": "2026-11-22T10:00:00.000000Z",
                "updated_at": "2026-11-22T10:00:00.000000Z",
                "lead_time": 4.0,
                "result": prediction_regions(painted, names, label_map),
            }
            | fields
        )
        return task

    return add


@pytest.fixture
def make_app():
    """Make applications, and close what they opened."""
    made = []

    def make(settings):
        made.append(create_app(settings))
        return made[-1]

    yield make
    for app in made:
        app.extensions["biosegment"].client.close()


@pytest.fixture
def app(make_app, settings):
    return make_app(settings)


@pytest.fixture
def jobs(app):
    return app.extensions["biosegment"].jobs


@pytest.fixture
def http(app):
    with app.test_client() as client:
        yield client


class Site(ThreadingHTTPServer):
    """A web server that answers what ``pages`` says: path -> (status, headers, body)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.pages = {}
        self.asked = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.server.pages.get(self.path, (404, {}, b"nothing here"))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def here(stack, settings):
    """The stack's Label Studio, with a data root and a queue of our own."""
    return replace(stack.settings, data_root=settings.data_root, redis_url=settings.redis_url)


@pytest.fixture
def client(here):
    with LabelStudioClient(here) as client:
        yield client


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def full_precision(monkeypatch):
    """Whatever the machine, rounding is too small to matter."""
    monkeypatch.setattr("ml_backend.predictor.has_bfloat16", lambda _: False)


@pytest.fixture
def network():
    """One that finds all of three classes in noise."""
    torch.manual_seed(3)
    network = UNet(UNetSpec(3, widths=(4, 8, 16)))
    torch.nn.init.normal_(network.head.weight, std=3)
    torch.nn.init.zeros_(network.head.bias)
    with torch.no_grad():
        # Batch normalisation learns what it sees, so that all classes occur.
        for _ in range(50):
            network(torch.rand(4, 1, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3))
    return network.eval()


@pytest.fixture
def registered():
    """Return a function that puts a network of three classes into a new registry."""

    def register(data_root, network, version):
        spec = TrainingSpec(("background", "cell", "vesicle"), widths=(4, 8, 16))
        card = ModelCard.of(
            TrainedModel(network, spec, 1, {}),
            strategy="entropy", annotations={}, left_out={}, lead_time_s=0.0, parent=None,
        )  # fmt: skip
        registry = ModelRegistry(data_root)
        registry.save(7, version, network, card)
        return registry

    return register
