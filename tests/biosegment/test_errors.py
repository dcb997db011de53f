import pickle

import pytest

from biosegment import errors
from biosegment.errors import BioSegmentError
from biosegment.geometry import Roi

URL = "http://localhost:8080"
FACTS = {
    "SettingsError": ("REDIS_URL", "must be an address"),
    "BoxError": ("0:10",),
    "LabelValuesError": ("labels.tif", (3, 7), ("cell", "vesicle")),
    "LinkError": ("stack.tif", "its slices are strips"),
    "LinkBrokenError": ("stack.tif", "no such file"),
    "ClusterError": ("tcp://gpu:8786", "nothing answers"),
    "SegmentationError": ("vnc", "the worker died"),
    "UncertaintyError": ("vnc", "cells", ("project3-0007",)),
    "LabelsBusyError": ("project3-0007", "vnc"),
    "SegmentationExistsError": ("project3-0007", "vnc"),
    "ObjectsError": ("the voxel size of vnc is not known",),
    "ExportError": ("labels.seg.nrrd", "it holds 300 classes"),
    "TileExportError": ("edited", "tiles.json is no list of tiles"),
    "ChoiceError": ("stack.tif", "channel", ("raw", "labels"), 2),
    "UnsupportedFormatError": ("stack.xyz", {"tiff": "no TIFF header", "mrc": "no map"}),
    "UnreadableFileError": ("stack.tif", "slice 3 is cut short"),
    "VoxelSizeError": ("40,5,5", "it has no unit"),
    "MissingExtraError": ("stack.dm4", "dm"),
    "VolumeNotFoundError": ("vnc", "data"),
    "VolumeExistsError": ("vnc", "a.tif, 5 x 37 x 53"),
    "RegionError": (Roi(0, 0, 0, 1, 9, 9), (5, 8, 8)),
    "LabelConfigError": ("it has no brush",),
    "TaskError": (17, "its image is missing"),
    "LabelStudioError": (URL, "it does not answer"),
    "AuthenticationError": (URL,),
    "ProjectNotFoundError": (URL, "EM", ["Other (number 3)"]),
    "UnsafeAddressError": ("http://elsewhere/a.png", URL),
    "NothingToTrainOnError": (4,),
    "BrushError": ("it ends early",),
    "VolumeNameError": ("../a",),
    "SourceNotFoundError": ("stack.tif",),
    "SourceUnreachableError": ("s3://bucket/a.zarr", "access is denied"),
    "LabelsNotFoundError": ("truth", "vnc", ("cells",)),
    "LabelsMismatchError": ("labels.tif", "it has another shape"),
    "DiskFullError": ("data/volumes", "No space left on device"),
    "ContractError": ("it needs a list of tasks",),
    "QueueError": ("localhost:6379",),
    "QueuePasswordError": ("localhost:6379",),
    "ModelNotFoundError": (3, "0001-20261122T101530"),
    "ModelDamagedError": ("models/3/card.json", "it is not a card"),
    "ModelStorageError": ("s3://bucket/models", "access is denied"),
    "RecipeError": ("models/3/recipe.json", "widths are missing"),
    "TooFewLabelsError": (4, 1),
    "ModelPackageError": ("mito.zip", "it is no zip file"),
    "ProjectBusyError": ("EM",),
    "TuningError": ("EM", "the worker died"),
    "NoWorkerError": ("localhost:6379",),
    "PortInUseError": (8080, "--port"),
    "MissingProgramError": ("redis-server",),
    "ServiceError": ("worker", "data/stack/logs/worker.log", "Killed"),
    "StackRunningError": ("/srv/data",),
    "LoopStalledError": (3, 1800.0),
    "UnknownStrategyError": ("guess", ("entropy", "random")),
    "SampleError": ("vnc", "no network"),
    "ExperimentExistsError": ("results", "labels: 60 there, 120 here"),
    "RunEndedError": ("entropy, seed 0", -9),
}


def every_error():
    kinds = [BioSegmentError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return kinds[1:]


def test_every_error_is_covered_here():
    assert {kind.__name__ for kind in every_error()} == set(FACTS)


def texts(fact):
    """Yield what a sentence should hold of a fact."""
    if isinstance(fact, dict):
        yield from (text for pair in fact.items() for text in pair)
    elif isinstance(fact, tuple | list):
        yield from map(str, fact)
    else:
        yield f"{fact:g}" if isinstance(fact, float) else str(fact)


@pytest.mark.parametrize("name", FACTS)
def test_an_error_is_one_sentence_that_holds_the_facts(name):
    sentence = str(getattr(errors, name)(*FACTS[name]))
    assert "\n" not in sentence
    assert sentence.endswith("." if name != "ServiceError" else "Killed")
    for fact in FACTS[name]:
        assert all(text in sentence for text in texts(fact))


@pytest.mark.parametrize("name", FACTS)
def test_an_error_crosses_process_borders_unchanged(name):
    error = getattr(errors, name)(*FACTS[name])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SettingsError", ValueError),
        ("VolumeNotFoundError", LookupError),
        ("VolumeExistsError", FileExistsError),
        ("DiskFullError", OSError),
        ("LoopStalledError", TimeoutError),
        ("AuthenticationError", errors.LabelStudioError),
    ],
)
def test_an_error_is_caught_as_the_builtin_that_it_is(name, builtin):
    with pytest.raises(builtin):
        raise getattr(errors, name)(*FACTS[name])


def test_nothing_to_train_on_says_which_way():
    assert "no tile is annotated" in str(errors.NothingToTrainOnError(0))
    assert "none of the 4 annotated tiles" in str(errors.NothingToTrainOnError(4))


def test_a_project_is_sought_among_none():
    assert "it has: none" in str(errors.ProjectNotFoundError(URL, "EM", []))
