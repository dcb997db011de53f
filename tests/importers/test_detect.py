import shutil

import numpy as np
import pytest
import tifffile

from biosegment.errors import SourceNotFoundError, UnreadableFileError, UnsupportedFormatError
from importers import READERS
from importers.base import VolumeReader
from importers.detect import open_volume, reader_name
from importers.tiff import TiffReader


def test_every_reader_of_the_table_loads():
    for name in READERS:
        assert issubclass(READERS[name], VolumeReader)


def test_a_wrong_ending_does_not_hide_what_a_file_is(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, 3, 5), "uint8"), photometric="minisblack")
    shutil.move(tmp_path / "stack.tif", tmp_path / "stack.dat")
    with open_volume(tmp_path / "stack.dat") as reader:
        assert reader.info.shape == (2, 3, 5)


def test_an_unknown_file_is_refused_with_each_readers_reason(tmp_path):
    path = tmp_path / "stack.tif"
    path.write_text("not a TIFF")
    with pytest.raises(UnsupportedFormatError) as refusal:
        open_volume(path)
    assert "tiff: it does not begin like a TIFF file" in str(refusal.value)
    assert "image_folder: it is not a folder" in str(refusal.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "stack.tif").touch()
    with pytest.raises(UnsupportedFormatError, match="does not begin"):
        open_volume(tmp_path / "stack.tif")


def test_what_the_system_does_not_let_be_read_is_said_plainly(tmp_path, monkeypatch):
    (tmp_path / "stack.tif").touch()

    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(TiffReader, "refusal", fail)
    with pytest.raises(UnreadableFileError, match=r"stack\.tif .*Permission denied"):
        open_volume(tmp_path / "stack.tif")


def test_a_reader_knows_its_name(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 5), "uint8"))
    with open_volume(tmp_path / "stack.tif") as reader:
        assert reader_name(reader) == "tiff"


def test_nothing_at_the_path_is_said_plainly(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"There is no file or folder .*gone\.tif"):
        open_volume(tmp_path / "gone.tif")
