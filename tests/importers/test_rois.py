import pickle
import zipfile

import numpy as np
import pytest
import roifile
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from biosegment.errors import RegionError, UnreadableFileError
from biosegment.geometry import Roi
from importers.rois import RoiReader, holds_rois

SHAPE = (4, 30, 40)
SQUARE = np.array([[10, 5], [14, 5], [14, 8], [10, 8]])


def saved(path, *rois):
    roifile.roiwrite(path, rois, name=[roi.name for roi in rois], mode="w")
    return path


def polygon(points=SQUARE, name="cell-1", z=2):
    return ImagejRoi.frompoints(points, name=name, z=z, position=z)


def values(path, shape=SHAPE):
    with RoiReader(path, shape=shape) as reader:
        return reader.read(Roi.whole(shape)), dict(reader.info.label_names)


def test_pixels_whose_centre_is_inside_are_marked_on_their_slice(tmp_path):
    found, names = values(saved(tmp_path / "a.zip", polygon()))
    expected = np.zeros(SHAPE, int)
    expected[2, 5:8, 10:14] = 2
    np.testing.assert_array_equal(found, expected)
    assert names == {2: "cell"}


def test_a_region_is_a_part_of_the_whole(tmp_path):
    path = saved(tmp_path / "a.zip", polygon(), polygon(SQUARE + 20, "cell-2", z=1))
    whole, _ = values(path)
    part = Roi(1, 6, 12, 2, 22, 20)
    with RoiReader(path, shape=SHAPE) as reader:
        np.testing.assert_array_equal(reader.read(part), whole[part.slices])
        with pytest.raises(RegionError):
            reader.read(Roi(3, 0, 0, 2, 1, 1))
        with pickle.loads(pickle.dumps(reader)) as copy:
            np.testing.assert_array_equal(copy.read(part), whole[part.slices])


def test_ovals_and_rectangles(tmp_path):
    box = {"left": 4, "top": 6, "right": 24, "bottom": 18, "z_position": 1, "position": 1}
    oval = ImagejRoi(roitype=ROI_TYPE.OVAL, name="cell-1", **box)
    rectangle = ImagejRoi(roitype=ROI_TYPE.RECT, name="cell-2", **box | {"z_position": 2})
    found, _ = values(saved(tmp_path / "a.zip", oval, rectangle))
    y, x = np.indices(SHAPE[1:]) + 0.5
    inside = ((x - 14) / 10) ** 2 + ((y - 12) / 6) ** 2 < 1
    np.testing.assert_array_equal(found[0] == 2, inside)
    np.testing.assert_array_equal(found[1] == 2, (x > 4) & (x < 24) & (y > 6) & (y < 18))


def test_what_two_parts_of_a_composite_share_is_a_hole(tmp_path):
    outer = [0, 2, 2, 1, 12, 2, 1, 12, 12, 1, 2, 12, 4]
    inner = [0, 5, 5, 1, 9, 5, 1, 9, 9, 1, 5, 9, 4]
    path = np.array(outer + inner, np.float32)
    composite = ImagejRoi(
        roitype=ROI_TYPE.RECT, name="cell-1", z_position=1, left=2, top=2, right=12, bottom=12,
        shape_roi_size=len(path), multi_coordinates=path,
    )  # fmt: skip
    found, _ = values(saved(tmp_path / "a.zip", composite))
    assert np.count_nonzero(found) == 100 - 16
    assert found[0, 7, 7] == 0


def test_names_say_what_areas_are_and_the_later_one_counts(tmp_path):
    path = saved(
        tmp_path / "a.zip",
        polygon(name="cell-1"), polygon(name="0003-0006-0012"), polygon(SQUARE + 2, "vesicle"),
    )  # fmt: skip
    found, names = values(path)
    assert names == {1: "", 2: "cell", 3: "vesicle"}
    assert (found[2, 5, 10], found[2, 7, 13]) == (1, 3)


def test_the_slice_may_stand_in_the_name_alone(tmp_path):
    roi = ImagejRoi.frompoints(SQUARE, name="0003-0006-0012")
    assert values(saved(tmp_path / "a.zip", roi))[0][2].any()


def test_a_single_roi_belongs_to_a_single_slice(tmp_path):
    path = tmp_path / "a.roi"
    ImagejRoi.frompoints(SQUARE, name="cell").tofile(path)
    assert holds_rois(path)
    assert values(path, (1, 30, 40))[0].any()
    with pytest.raises(UnreadableFileError, match="no slice"):
        values(path)


@pytest.mark.parametrize("kind", [ROI_TYPE.LINE, ROI_TYPE.POINT, ROI_TYPE.POLYLINE])
def test_what_has_no_area_is_refused_by_name(tmp_path, kind):
    roi = polygon(name="axis")
    roi.roitype = kind
    with pytest.raises(UnreadableFileError, match=f"axis is of the kind {kind.name.lower()}"):
        values(saved(tmp_path / "a.zip", roi))


def test_text_is_refused(tmp_path):
    roi = ImagejRoi(roitype=ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT, name="note", z_position=1)
    with pytest.raises(UnreadableFileError, match="note is of the kind text"):
        values(saved(tmp_path / "a.zip", roi))


def test_a_slice_beyond_the_volume_is_told(tmp_path):
    with pytest.raises(UnreadableFileError, match="slice 5, and there are 4"):
        values(saved(tmp_path / "a.zip", polygon(z=4)))


def test_other_files_hold_no_rois(tmp_path):
    other = tmp_path / "a.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.roi", b"Iout")
        archive.writestr("zarr.json", b"{}")
    assert not holds_rois(other)
    assert RoiReader.refusal(other)
    assert not holds_rois(tmp_path / "missing.zip")
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    assert not holds_rois(tmp_path / "a.tif")


def test_files_that_unpack_to_gigabytes_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.roi", bytes(2**26))
    with pytest.raises(UnreadableFileError, match="more than 268435456"):
        values(path)
    single = tmp_path / "a.roi"
    with single.open("wb") as file:
        file.write(b"Iout")
        file.truncate(2**33)
    with pytest.raises(UnreadableFileError, match="more than 268435456"):
        values(single)


def test_damage_is_refused_or_harmless(tmp_path):
    path = saved(tmp_path / "a.zip", polygon(), polygon(SQUARE + 3, "cell-2"))
    whole = path.read_bytes()
    refused = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 4):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(1, len(content)) if seed % 5 == 0 else None])
        holds_rois(path)
        try:
            assert values(path)[0].shape == SHAPE
        except UnreadableFileError:
            refused += 1
    assert refused
