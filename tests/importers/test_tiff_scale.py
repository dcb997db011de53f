import numpy as np
import pytest
import tifffile

from importers.testing import example, info_of
from importers.tiff_scale import FIBICS_TAG, slice_distance

ZEISS_TAG = 34118
FEI_TAG = 34682


def write_imagej(path, unit, per_nm, **metadata):
    """Write the example with voxels of 40 x 5 x 4 nm."""
    metadata = {"axes": "ZYX", "spacing": 40 * per_nm, "unit": unit} | metadata
    resolution = (1 / (4 * per_nm), 1 / (5 * per_nm))
    tifffile.imwrite(path, example("uint8"), imagej=True, resolution=resolution, metadata=metadata)


@pytest.mark.parametrize(
    ("unit", "per_nm"),
    [
        ("um", 1e-3),
        ("\\u00B5m", 1e-3),
        ("micron", 1e-3),
        ("microns", 1e-3),
        ("nm", 1),
        ("mm", 1e-6),
        ("nanometer", 1),
    ],
)
def test_understands_imagej_units(tmp_path, unit, per_nm):
    path = tmp_path / "stack.tif"
    write_imagej(path, unit, per_nm)
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))


@pytest.mark.parametrize("unit", ["pixel", "inch-ish", ""])
def test_a_unit_that_is_no_length_leaves_the_voxel_size_unknown(tmp_path, unit):
    path = tmp_path / "stack.tif"
    write_imagej(path, unit, 1)
    assert info_of(path).voxel_size is None


def test_ome_sizes_without_a_unit_are_micrometres(tmp_path):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 0.005, "PhysicalSizeZ": 0.04}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes})
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_an_impossible_voxel_size_is_unknown(tmp_path, size):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": size, "PhysicalSizeY": 1.0, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes})
    assert info_of(path).voxel_size is None


def test_dots_per_inch_are_no_voxel_size(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), resolution=(72, 72), resolutionunit="INCH")
    assert info_of(path).voxel_size is None


def test_imagej_units_may_differ_from_axis_to_axis(tmp_path):
    path = tmp_path / "stack.tif"
    write_imagej(path, "nm", 1, yunit="um", zunit="um")
    assert info_of(path).voxel_size.zyx == pytest.approx((40_000, 5000, 4))


def test_a_slice_distance_that_imagej_left_out_is_not_guessed(tmp_path):
    path = tmp_path / "stack.tif"
    write_imagej(path, "um", 1e-3)
    path.write_bytes(path.read_bytes().replace(b"spacing=", b"sparing="))
    info = info_of(path)
    assert info.voxel_size is None
    assert info.metadata["pixel size"] == "5 x 4 nm (y, x)"
    assert any("how far apart its slices lie is not said" in notice for notice in info.notices)


def test_an_ome_pixel_size_without_a_slice_distance_is_not_lost(tmp_path):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 0.005}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes})
    assert info_of(path).voxel_size is None
    assert info_of(path).metadata["pixel size"] == "5 x 4 nm (y, x)"


def test_a_resolution_too_fine_for_a_screen_is_a_pixel_size(tmp_path):
    path = tmp_path / "stack.tif"
    resolution = (1e7 / 4, 1e7 / 5)
    tifffile.imwrite(path, example("uint8"), resolution=resolution, resolutionunit="CENTIMETER")
    assert info_of(path).metadata["pixel size"] == "5 x 4 nm (y, x)"


def write_slice(path, tag, text, shape=(30, 40)):
    tags = [(tag, "s", 0, text, True)]
    tifffile.imwrite(path, np.zeros(shape, "uint8"), extratags=tags, metadata=None)


FEI = """[Scan]
PixelWidth=4e-009
PixelHeight=5e-009
Dwelltime=1e-006
[Image]
ResolutionX=40
ResolutionY=26
[PrivateFei]
DatabarHeight=4
"""


def test_a_slice_of_an_fei_microscope(tmp_path):
    write_slice(tmp_path / "slice.tif", FEI_TAG, FEI)
    info = info_of(tmp_path / "slice.tif")
    assert info.metadata["pixel size"] == "5 x 4 nm (y, x)"
    assert info.metadata["Scan.Dwelltime"] == "1e-06"
    assert any("lowest 4 rows" in notice for notice in info.notices)


def test_a_binned_copy_does_not_keep_the_pixel_size_of_the_original(tmp_path):
    write_slice(tmp_path / "slice.tif", FEI_TAG, FEI, (15, 20))
    info = info_of(tmp_path / "slice.tif")
    assert "pixel size" not in info.metadata
    assert info.notices == ()


def test_a_slice_of_a_zeiss_microscope(tmp_path):
    text = "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.5 nm\r\nAP_WD\r\nWD = 5.1 mm\r\n"
    write_slice(tmp_path / "slice.tif", ZEISS_TAG, text)
    info = info_of(tmp_path / "slice.tif")
    assert info.metadata["pixel size"] == "4.5 x 4.5 nm (y, x)"
    assert info.metadata["WD"] == "5.1 mm"


def atlas(depth_um, width=40):
    return f"""<?xml version="1.0"?><Fibics version="1.2">
        <Image><Width>{width}</Width><Height>30</Height></Image>
        <Scan><Dwell units="ns">800</Dwell><Ux>0.003</Ux><Uy>0.004</Uy>
        <Vx>0.0036</Vx><Vy>-0.0048</Vy></Scan>
        <ATLAS3D><Slice><ZPos>{depth_um}</ZPos></Slice></ATLAS3D></Fibics>"""


def test_a_slice_of_zeiss_atlas(tmp_path):
    write_slice(tmp_path / "slice.tif", FIBICS_TAG, atlas(0.5))
    info = info_of(tmp_path / "slice.tif")
    assert info.metadata["pixel size"] == "6 x 5 nm (y, x)"
    assert info.metadata["Scan.Dwell"] == "800 ns"


def test_a_scan_of_another_size_is_not_believed(tmp_path):
    write_slice(tmp_path / "slice.tif", FIBICS_TAG, atlas(0.5, width=80))
    assert "pixel size" not in info_of(tmp_path / "slice.tif").metadata


def test_a_folder_of_zeiss_atlas_slices_knows_their_distance(tmp_path):
    for z, depth in enumerate((0.5, 0.51, 0.52)):
        write_slice(tmp_path / f"{z}.tif", FIBICS_TAG, atlas(depth))
    info = info_of(tmp_path)
    assert info.voxel_size.zyx == pytest.approx((10, 6, 5))
    assert info.notices == ()


def test_uneven_slice_distances_are_told():
    distance, notices = slice_distance([0, 10, 20, 30, 55])
    assert distance == 10
    assert "from 10 to 25 nm" in notices[0]


@pytest.mark.parametrize("depths", [[], [3], [0, None, 20], [7, 7, 7]])
def test_depths_that_tell_no_distance(depths):
    assert slice_distance(depths) == (None, ())


def test_damaged_metadata_of_a_microscope_does_no_harm(tmp_path):
    write_slice(tmp_path / "slice.tif", FIBICS_TAG, "<Fibics><Scan><Ux>no number")
    assert info_of(tmp_path / "slice.tif").shape == (1, 30, 40)
