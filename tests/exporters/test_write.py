from dataclasses import replace

import numpy as np
import pytest
import tifffile

from biosegment.errors import DiskFullError, ExportError, SettingsError
from exporters import WRITERS
from exporters.base import LabelClass
from exporters.testing import CLASSES, example, example_labels, layer_of
from exporters.write import label_classes, out_files, write_files, writer_named

IMAGE = layer_of(example("uint8"))
LABELS = layer_of(example_labels("uint8"), CLASSES)


def files_of(folder, format, image=IMAGE, labels=LABELS):
    return out_files(writer_named(format), folder, "a", image, labels)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_format_is_found_by_name():
    assert isinstance(writer_named("nrrd"), WRITERS["nrrd"])
    with pytest.raises(SettingsError, match=r"is one of amira, .*, tiff, not psd"):
        writer_named("psd")


@pytest.mark.parametrize("format", [*WRITERS])
def test_labels_are_only_sent_out_to_be_edited_where_they_come_back(format):
    if WRITERS[format].COMES_BACK:
        assert writer_named(format, to_edit=True).to_edit
        assert not writer_named(format).to_edit
    else:
        said = rf"--format is {format}, from which labels cannot be brought back"
        with pytest.raises(SettingsError, match=said):
            writer_named(format, to_edit=True)


def test_what_surfaces_are_made_of_is_lost_with_them():
    assert [name for name in WRITERS if not WRITERS[name].COMES_BACK] == ["gltf", "ply", "stl"]


def test_what_a_format_changes_is_told(tmp_path):
    classes = (LabelClass(1, "my label", (1, 2, 3)), LabelClass(2, "ER", (1, 2, 3)))
    labels = layer_of(example_labels("uint8"), classes)
    written = write_files(files_of(tmp_path, "amira", IMAGE, labels))
    assert [path.name for path in written.paths] == ["a_labels.am", "a_image.am"]
    said = 'Names that the format cannot hold were changed: "my label" is "my_label"'
    assert written.notices == (said,)
    assert write_files(files_of(tmp_path, "amira")).notices == ()


@pytest.mark.parametrize(
    ("format", "image", "labels", "expected"),
    [
        ("ims", IMAGE, LABELS, ["a.ims"]),
        ("ims", IMAGE, None, ["a_image.ims"]),
        ("ims", None, LABELS, ["a_labels.ims"]),
        ("nrrd", IMAGE, LABELS, ["a_labels.seg.nrrd", "a_image.nrrd"]),
        ("nrrd", IMAGE, None, ["a_image.nrrd"]),
        ("rois", IMAGE, LABELS, ["a_labels.zip", "a_image.tif"]),
        ("mib", None, LABELS, ["a_labels.model"]),
        ("n5", IMAGE, LABELS, ["a.n5"]),
        ("png", IMAGE, LABELS, ["a_labels_png", "a_image_png"]),
        ("ply", IMAGE, LABELS, ["a_labels_meshes", "a_image.tif"]),
        ("gltf", None, LABELS, ["a_labels.glb"]),
    ],
)
def test_a_file_is_called_after_what_it_holds(tmp_path, format, image, labels, expected):
    files = files_of(tmp_path, format, image, labels)
    assert [file.path.name for file in files] == expected
    write_files(files)
    assert names(tmp_path) == sorted(expected)


def test_folders_are_made(tmp_path):
    write_files(files_of(tmp_path / "b" / "c", "tiff"))
    found = tifffile.imread(tmp_path / "b" / "c" / "a_image.tif")
    np.testing.assert_array_equal(found, example("uint8"))


@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"--out is .*, which cannot be made a folder"):
        write_files(files_of(tmp_path / folder, "tiff"))


def unreadable(roi):
    raise AssertionError("nothing is read")


def test_what_a_format_cannot_hold_is_refused_before_anything_is_read(tmp_path):
    image = replace(IMAGE, dtype=np.dtype("float64"))
    labels = replace(LABELS, read=unreadable)
    with pytest.raises(ExportError, match=r"a_image\.tif cannot be written: image is float64"):
        write_files(files_of(tmp_path / "b", "tiff", image, labels))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "expected"), [(OSError(28, "full"), DiskFullError), (KeyboardInterrupt(), None)]
)
def test_all_files_are_written_or_none(tmp_path, error, expected):
    (tmp_path / "a_labels.tif").write_bytes(b"old")

    def fail(roi):
        if roi.z == 3:
            raise error
        return IMAGE.read(roi)

    files = files_of(tmp_path, "tiff", image=replace(IMAGE, read=fail))
    with pytest.raises(expected or KeyboardInterrupt):
        write_files(files)
    assert names(tmp_path) == ["a_labels.tif"]
    assert (tmp_path / "a_labels.tif").read_bytes() == b"old"


def test_classes_have_values_from_1_and_colours():
    assert label_classes(["a", "b", "c"], ["#0180fe", "red", "no colour"]) == (
        LabelClass(1, "a", (1, 128, 254)),
        LabelClass(2, "b", (255, 0, 0)),
        LabelClass(3, "c", (128, 128, 128)),
    )
