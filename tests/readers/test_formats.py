"""What writers write is read by programs and libraries of others, voxel for voxel.

A new format is a row of TABLE; a new program is a script in `scripts/`.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from exporters import WRITERS, tiff
from exporters.base import LabelClass, writable_dtype
from exporters.testing import VOXEL_SIZE, layer_of

SHAPE = (6, 37, 53)
VOXEL_UM = tuple(edge / 1000 for edge in VOXEL_SIZE.zyx)
WINDOW = (12.0, 140.0)
COLOURS = ((238, 119, 51), (0, 119, 187), (238, 51, 119))
CLASSES = ("mitochondria", "synaptic vesicles", "Golgi (cis)")
FOREIGN_CLASSES = ("Übergänge", "小泡", "митохондрии")
FILE_NAMES = ("mitochondria", "synaptic_vesicles", "Golgi_cis_")
NAMES_IN_FILE = {
    "amira": ("mitochondria", "synaptic_vesicles", "Golgi__cis_"),
    "ply": FILE_NAMES,
    "stl": FILE_NAMES,
}
"""Of formats that cannot hold all of CLASSES."""

UNSIGNED = ("uint8", "uint16", "uint32")
INTEGERS = "image-uint8 image-int8 image-uint16 image-int16 image-uint32 image-int32"
FLOATS = "image-float32 image-float64"
LABELS, OBJECTS = "labels-uint8 labels-uint16", "objects-uint8 objects-uint16"
LABELS_32, OBJECTS_32 = f"{LABELS} labels-uint32", f"{OBJECTS} objects-uint32"

TABLE = (
    # Writer; what it is given; readers, and what they are to find beside voxels.
    ("tiff", "image-uint8 image-uint16", {"imagej": "size window", "bioformats": "size"}),
    ("tiff", "image-float32", {"imagej": "size window", "bioformats": "size"}),
    ("tiff", "labels-uint8", {"imagej": "size names colours", "bioformats": "size colours"}),
    ("tiff", "labels-uint16", {"imagej": "size names colours", "bioformats": "size"}),
    ("tiff", OBJECTS, {"imagej": "size", "bioformats": "size"}),
    ("tiff", "foreign", {"imagej": "names"}),
    ("tiff", "large-image-uint16 large-image-float32", {"bioformats": "size"}),
    ("tiff", "large-labels-uint8", {"bioformats": "size names colours"}),
    ("tiff", "large-labels-uint16", {"bioformats": "size names"}),
    ("tiff", "large-foreign", {"bioformats": "names"}),
    ("rois", LABELS_32, {"imagej": "names colours"}),
    ("rois", OBJECTS_32, {"imagej": "names"}),
    ("rois", "foreign", {"imagej": "names"}),
    ("png", "image-uint8 image-uint16 labels-uint16", {"imagej": ""}),
    ("png", "labels-uint8", {"imagej": "colours"}),
    ("png", OBJECTS, {"imagej": ""}),
    ("ims", "image-uint8 image-uint16 image-float32", {"imaris_ims": "size", "bioformats": "size"}),
    ("ims", f"{LABELS} {OBJECTS} both", {"imaris_ims": "size", "bioformats": "size channel"}),
    ("ims", "classes", {"bioformats": "size channel"}),
    ("nrrd", f"{INTEGERS} {FLOATS}", {"simpleitk": "size direction"}),
    ("nrrd", LABELS, {"slicerio": "size names colours", "simpleitk": "size names colours"}),
    ("nrrd", "objects-uint8", {"slicerio": "size names", "simpleitk": "size names"}),
    ("nrrd", "objects-uint16 objects-uint32", {"simpleitk": "size direction"}),
    ("nrrd", "foreign", {"simpleitk": "names"}),
    ("amira", "image-uint8 image-uint16 image-int16", {"ahds": "size", "bioformats": "size"}),
    ("amira", "image-int32 image-float32", {"ahds": "size", "bioformats": "size"}),
    ("amira", LABELS, {"ahds": "size names colours", "bioformats": "size colours"}),
    ("amira", OBJECTS, {"ahds": "size", "bioformats": "size"}),
    ("mib", LABELS_32, {"octave": "size names colours"}),
    ("mib", OBJECTS_32, {"octave": "size"}),
    ("nifti", f"{INTEGERS} {FLOATS}", {"simpleitk": "size direction", "bioformats": "size"}),
    ("nifti", LABELS_32, {"simpleitk": "size direction", "bioformats": "size", "nibabel": "size"}),
    ("nifti", OBJECTS_32, {"simpleitk": "size", "bioformats": "size"}),
    ("hdf5", f"{INTEGERS} {FLOATS}", {"netcdf_java": "size", "octave": ""}),
    ("hdf5", f"{LABELS_32} both", {"netcdf_java": "size names", "octave": ""}),
    ("hdf5", OBJECTS_32, {"netcdf_java": "size", "octave": ""}),
    ("hdf5", "foreign", {"netcdf_java": "names"}),
    ("n5", f"{INTEGERS} {FLOATS} {LABELS_32} {OBJECTS_32} both", {"tensorstore": "size"}),
    ("ome_zarr", f"{INTEGERS} {FLOATS}", {"napari": "size", "ome_zarr_models": "size"}),
    ("ome_zarr", f"{LABELS_32} both foreign", {"napari": "size names colours"}),
    ("ome_zarr", f"{LABELS_32} both foreign", {"ome_zarr_models": "size names colours"}),
    ("ome_zarr", OBJECTS_32, {"napari": "size", "ome_zarr_models": "size"}),
    # Of surfaces, which voxels lie inside; their size is that of the scene.
    ("stl", f"{LABELS_32} {OBJECTS_32} foreign", {"vtk": "names"}),
    ("ply", f"{LABELS_32} foreign", {"vtk": "names colours"}),
    ("ply", OBJECTS_32, {"vtk": "names"}),
    ("gltf", f"{LABELS_32} foreign", {"vtk": "names colours"}),
    ("gltf", OBJECTS_32, {"vtk": "names"}),
)


@dataclass(frozen=True)
class Case:
    """One layer of one file, for one reader."""

    format: str
    content: str
    layer: str
    reader: str
    tells: frozenset[str]

    def __str__(self):
        layer = f"-{self.layer}" if len(layers(self.content)) > 1 else ""
        return f"{self.format}-{self.content}{layer}-{self.reader}"


def layers(content):
    """Return what is read of a file; of Imaris files, channels of classes too."""
    kinds = {"both": ("image", "labels"), "classes": CLASSES}
    return kinds.get(content, ("image" if "image" in content else "labels",))


CASES = [
    Case(format, content, layer, reader, frozenset(tells.split()))
    for format, contents, readers in TABLE
    for content in contents.split()
    for layer in layers(content)
    for reader, tells in readers.items()
]


def intensities(dtype):
    """Return an array without symmetry that uses the range of its type."""
    z, y, x = np.indices(SHAPE)
    rising = (20 * z + y + x // 2) / 162
    if np.dtype(dtype).kind == "f":
        return (1e3 * rising - 1 / 3).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.rint(low + rising * (high - low)).astype(dtype)


def label_values(dtype):
    """Return three classes and background: a ring, a wedge at an edge, a box; one empty slice."""
    z, y, x = np.indices(SHAPE)
    far = np.hypot(y - 14, x - 20)
    labels = np.where((far < 11) & (far > 4), 1, 0)
    labels[(y > 20) & (x > 45 - z)] = 2
    labels[1:4, 2:5, 2:9] = 3
    labels[4] = 0
    return labels.astype(dtype)


def object_numbers(dtype):
    """Return the same shapes with numbers that need the type."""
    largest = {"uint8": 200, "uint16": 40_000, "uint32": 3_000_000_000}[dtype]
    return np.array([0, 3, 17, largest], dtype)[label_values("uint8")]


def arrays(content):
    """Return the intensities and label values that a file is to hold, one of them None."""
    if content == "both":
        return intensities("uint16"), label_values("uint8")
    kind, _, dtype = content.removeprefix("large-").partition("-")
    if kind == "image":
        return intensities(dtype), None
    return None, (object_numbers if kind == "objects" else label_values)(dtype or "uint8")


def names(content):
    """Return what the values of a file mean."""
    if content.startswith("objects"):
        return {value: str(value) for value in np.unique(arrays(content)[1]).tolist() if value}
    return dict(enumerate(FOREIGN_CLASSES if "foreign" in content else CLASSES, 1))


def names_in_file(case):
    changed = NAMES_IN_FILE.get(case.format, CLASSES)
    told = names(case.content)
    return dict(enumerate(changed, 1)) if set(told.values()) == set(CLASSES) else told


def labels_layer(content):
    """Return a file's labels; without classes where they number objects."""
    _, labels = arrays(content)
    if labels is None:
        return None
    told = {} if content.startswith("objects") else names(content)
    classes = [LabelClass(value, name, COLOURS[value - 1]) for value, name in told.items()]
    return replace(layer_of(labels, tuple(classes)), name="labels")


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return a function that writes a file once, and returns its path."""
    folder = tmp_path_factory.mktemp("written")

    @cache
    def write(format, content):
        writer = WRITERS[format]()
        image, _ = arrays(content)
        labels = labels_layer(content)
        suffix = writer.IMAGE_SUFFIX if labels is None else writer.labels_suffix(labels)
        path = folder / f"{format}-{content}{suffix}"
        with pytest.MonkeyPatch.context() as patch:
            if content.startswith("large"):
                patch.setattr(tiff, "LARGEST_IMAGEJ_BYTES", 0)
            shown = None if image is None else replace(layer_of(image), window=WINDOW)
            writer.write(path, shown, labels)
        return path

    return write


@pytest.fixture(scope="session")
def answer(request, written, readers):
    """Return a function that gives a reader's answer; a reader starts once for all its files."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    # Tests of other files have parameters of that name too.
    selected = [each["case"] for each in calls if isinstance(each.get("case"), Case)]
    numbers = [",".join(map(str, each)) for each in (SHAPE, VOXEL_UM)]

    def fields(case):
        path = written(case.format, case.content)
        return [case.format, str(path), case.layer, case.content, *numbers]

    @cache
    def answers(reader):
        jobs = {}
        for case in selected:
            if case.reader == reader:
                # What cannot be written fails in its own test, and not in those of others.
                with suppress(Exception):
                    jobs[str(case)] = fields(case)
        return readers.read(reader, jobs)

    def find(case):
        written(case.format, case.content)
        return answers(case.reader)[str(case)]

    return find


@pytest.mark.parametrize("case", CASES, ids=str)
def test_others_read_back(case, answer):
    found = answer(case)
    assert "error" not in found, found["error"]
    if "parts" in found:
        found |= painted(case, found)
    expected = expected_voxels(case)
    np.testing.assert_array_equal(found["voxels"], expected)
    assert np.can_cast(expected.dtype, found["voxels"].dtype, "safe")
    if "size" in case.tells:
        assert found["voxel_size_um"] == pytest.approx(VOXEL_UM, rel=1e-6)
    if "names" in case.tells and case.layer == "labels":
        assert found["names"] == names_in_file(case)
    if "colours" in case.tells and case.layer == "labels":
        for value in names(case.content):
            assert_colour(found["colours"][value], COLOURS[value - 1])
    if "window" in case.tells:
        assert tuple(found["window"]) == WINDOW
    if "channel" in case.tells:
        assert found["channel"]["name"] == case.layer
        if case.layer in CLASSES:
            assert_colour(found["channel"]["colour"], COLOURS[CLASSES.index(case.layer)])
    if "direction" in case.tells:
        assert found["direction"] == pytest.approx([1, 0, 0, 0, 1, 0, 0, 0, 1])


def expected_voxels(case):
    if case.layer in CLASSES:
        return np.where(label_values("uint8") == 1 + CLASSES.index(case.layer), 255, 0).astype("u1")
    image, labels = arrays(case.content)
    return image if case.layer == "image" else labels


def assert_colour(found, expected):
    # Some programs keep fractions, and round them down.
    assert found == pytest.approx(expected, abs=1)


def painted(case, found):
    """Return values, names and colours of outlines or surfaces, which the voxels number."""
    values = {name: value for value, name in names_in_file(case).items()}
    parts = [(values[part["name"]], part) for part in found["parts"]]
    table = np.array([0, *(value for value, _ in parts)], np.uint32)
    return {
        "voxels": table[found["voxels"].astype(int)],
        "names": {value: part["name"] for value, part in parts},
        "colours": {value: part["colour"] for value, part in parts},
    }


@pytest.mark.parametrize("format", [*WRITERS])
def test_every_format_and_type_has_a_reader_of_others(format):
    writer = WRITERS[format]()
    wanted = {f"labels-{dtype}" for dtype in writer.LABELS_DTYPES}
    for content in (f"objects-{dtype}" for dtype in UNSIGNED):
        labels = labels_layer(content)
        if writable_dtype(labels.dtype, writer.labels_dtypes(labels)):
            wanted.add(content)
    if writer.IMAGE_SUFFIX is not None:
        wanted |= {f"image-{dtype}" for dtype in writer.IMAGE_DTYPES}
    if writer.TOGETHER:
        wanted.add("both")
    assert wanted - {case.content for case in CASES if case.format == format} == set()
