"""Model folders and packages that were made to run code, to take all memory, or to lie.

Of packages, `tests/ml_backend/model_package/test_model_import.py` has more: checksums, pickles, zip
bombs.
"""

import hashlib
import json
import os
import pickle
import zipfile
from dataclasses import asdict

import pytest
import safetensors.torch

from biosegment.errors import ModelDamagedError, ModelPackageError
from ml_backend.model_package import CARD, WEIGHTS, PackageCard, packed, read_package


@pytest.fixture
def version(serve):
    return serve(1)


@pytest.fixture
def folder(settings, version):
    return settings.data_root / "models" / "1" / version


def change_card(folder, **fields):
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "spec",
    [
        {"classes": 2, "widths": [2**20] * 5},
        {"classes": 2, "widths": [4096] * 8},
        {"classes": 2, "widths": [4] * 10**5},
        {"classes": 10**9, "widths": [4, 8]},
        {"classes": -1, "widths": [4, 8]},
        {"classes": 2, "widths": [4, 8.5]},
        {"classes": 2, "widths": "ab"},
        {"classes": 2, "widths": None},
        {"classes": [2], "widths": [4, 8]},
        {"classes": 2, "widths": [4, 8], "dropout": 7},
        {"classes": 2, "widths": [4, 8], "dropout": "much"},
        {},
    ],
    ids=lambda spec: str(spec)[:60],
)
def test_an_absurd_network_is_not_built(registry, version, folder, spec):
    change_card(folder, architecture_spec=spec)
    with pytest.raises(ModelDamagedError):
        registry.load(1, version)


@pytest.mark.parametrize("text", [b"[" * 10**6, b'{"a":' * 10**6, b"9" * 10**5, b"\xff" * 100])
def test_a_hostile_card_is_one_clear_error(registry, version, folder, http, text):
    (folder / "card.json").write_bytes(text)
    with pytest.raises(ModelDamagedError):
        registry.load(1, version)
    assert registry.cards(1) == []
    assert http.get("/metrics").status_code == 200


def test_a_card_of_gigabytes_is_not_read(registry, version, folder):
    with (folder / "card.json").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ModelDamagedError, match="the most there can be"):
        registry.load(1, version)


def test_weights_of_terabytes_are_not_read(registry, version, folder):
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(2**42)
    with pytest.raises(ModelDamagedError, match="the most there can be"):
        registry.load(1, version)


def test_a_pickle_in_place_of_weights_is_not_opened(registry, version, folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    trap = pickle.dumps(Trap())
    (folder / "weights.safetensors").write_bytes(trap)
    change_card(folder, weights_sha256=hashlib.sha256(trap).hexdigest())
    with pytest.raises(ModelDamagedError):
        registry.load(1, version)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "header",
    [
        {"head.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}},
        {"head.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}},
        {"head.bias": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    ],
    ids=str,
)
def test_weights_that_lie_about_their_size_are_refused(registry, version, folder, header):
    text = json.dumps(header).encode()
    weights = len(text).to_bytes(8, "little") + text + bytes(4)
    (folder / "weights.safetensors").write_bytes(weights)
    change_card(folder, weights_sha256=hashlib.sha256(weights).hexdigest())
    with pytest.raises(ModelDamagedError):
        registry.load(1, version)


def test_a_version_has_no_path_in_its_name(registry, version, settings):
    (settings.data_root / "models" / "1" / "current").write_text("../../../../etc")
    assert registry.current(1) == version
    (settings.data_root / "models" / "1" / "current").write_text("x" * 10**6)
    assert registry.current(1) == version


def package_of(registry, version, path, **members):
    network, card = registry.load(1, version)
    content = packed(network, PackageCard.of(card, None))
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in {**content, **members}.items():
            archive.writestr(name, value)
    return path


def test_a_package_writes_no_file(registry, version, tmp_path):
    """Whatever its members are called, nothing is unpacked."""
    members = {"../slipped": b"x", f"{tmp_path}/slipped": b"x", "a/../../slipped": b"x"}
    path = package_of(registry, version, tmp_path / "package.zip", **members)
    before = set(tmp_path.rglob("*"))
    network, _ = read_package(path)
    assert network.spec.classes == 2
    assert set(tmp_path.rglob("*")) == before


def test_a_package_of_an_absurd_network_takes_no_memory(registry, version, tmp_path):
    """Its numbers are within what may be, its weights are a few bytes: it would take 20 GB."""
    network, card = registry.load(1, version)
    weights = safetensors.torch.save(network.state_dict())
    fields = asdict(PackageCard.of(card, None)) | {
        "architecture_spec": {"classes": 2, "widths": [4096] * 8, "dropout": 0.1},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    members = {CARD: json.dumps(fields), WEIGHTS: weights}
    with pytest.raises(ModelPackageError, match="not those of the network"):
        read_package(package_of(registry, version, tmp_path / "package.zip", **members))
