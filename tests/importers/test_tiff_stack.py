import numpy as np
import pytest
import tifffile

from biosegment.errors import ChoiceError, UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice
from importers.detect import open_volume
from importers.testing import SHAPE, example

WRITERS = {
    "imagej": {"imagej": True},
    "imagej-compressed": {"imagej": True, "compression": "zlib"},
    "ome": {"ome": True},
    "ome-tiled": {"ome": True, "tile": (16, 16), "compression": "zlib"},
    "tifffile": {},
}


def everything(path, **choice):
    with open_volume(path, Choice(**choice)) as reader:
        return reader.read(Roi.whole(reader.info.shape))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ("TZCYX", (2, 5, 3)),
        ("ZCYX", (5, 3)),
        ("TZYX", (4, 5)),
        ("CYX", (3,)),
        ("TYX", (4,)),
        ("TZCYXS", (2, 5, 2)),
    ],
)
def test_a_channel_and_a_time_point_are_chosen(tmp_path, axes, sizes, writer):
    shape = (*sizes, *SHAPE[1:], *((3,) if "S" in axes else ()))
    stack = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    photometric = "rgb" if "S" in axes else "minisblack"
    path = tmp_path / "stack.tif"
    metadata = {"axes": axes}
    tifffile.imwrite(path, stack, photometric=photometric, metadata=metadata, **WRITERS[writer])
    full = stack.reshape([dict(zip(axes, shape, strict=True)).get(axis, 1) for axis in "TZCYXS"])
    times, _, channels, _, _, samples = full.shape
    with open_volume(path) as reader:
        assert (reader.info.times, reader.info.channels) == (times, channels * samples)
    for time in range(times):
        for channel in range(channels * samples):
            np.testing.assert_array_equal(
                everything(path, channel=channel, time=time),
                full[time, :, channel // samples, :, :, channel % samples],
            )


def test_a_choice_that_is_needed_is_asked_for_by_number_and_name(tmp_path):
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "CZYX", "Channel": {"Name": ["SE", "BSE"]}}
    tifffile.imwrite(path, np.stack([example("uint8")] * 2), metadata=metadata)
    with open_volume(path) as reader, pytest.raises(ChoiceError, match="0 SE, 1 BSE"):
        reader.check_chosen()
    with open_volume(path, Choice(channel=1)) as reader:
        reader.check_chosen()


@pytest.mark.parametrize("choice", [{"channel": 2}, {"channel": -1}, {"time": 1}])
def test_a_choice_that_is_not_there_is_refused(tmp_path, choice):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, np.stack([example("uint8")] * 2), metadata={"axes": "CZYX"})
    with pytest.raises(ChoiceError):
        everything(path, **choice)


def write_two_images(path):
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(example("uint8"), metadata={"axes": "ZYX", "Name": "raw"})
        writer.write(example("uint16")[:, ::2], metadata={"axes": "ZYX", "Name": "overview"})


def test_images_of_an_ome_tiff_are_datasets(tmp_path):
    path = tmp_path / "two.ome.tif"
    write_two_images(path)
    np.testing.assert_array_equal(everything(path, dataset="raw"), example("uint8"))
    np.testing.assert_array_equal(everything(path, dataset="overview"), example("uint16")[:, ::2])
    for dataset in (None, "third"):
        with pytest.raises(ChoiceError, match=r"2 datasets \(raw, overview\)"):
            everything(path, dataset=dataset)


def test_a_dataset_of_a_file_that_has_none_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", example("uint8"), photometric="minisblack")
    with pytest.raises(ChoiceError, match="no dataset raw"):
        everything(tmp_path / "stack.tif", dataset="raw")


def test_stacks_that_were_appended_are_datasets_by_number(tmp_path):
    path = tmp_path / "two.tif"
    for stack in (example("uint8"), example("uint16")):
        tifffile.imwrite(path, stack, append=path.exists(), photometric="minisblack")
    np.testing.assert_array_equal(everything(path, dataset="1"), example("uint16"))


@pytest.mark.parametrize("byteorder", "<>")
def test_a_large_stack_of_imagej_has_one_page_and_bare_slices_after_it(tmp_path, byteorder):
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(0).integers(0, 2**16, (3, 2, 37, 53), "uint16")
    tifffile.imwrite(
        path, stack, imagej=True, byteorder=byteorder, metadata={"axes": "ZCYX"}, contiguous=True
    )
    with tifffile.TiffFile(path) as tiff:
        first, pages = tiff.pages[0], len(tiff.pages)
        link = first.offset + 2 + 12 * len(first.tags)
    assert pages == 6
    content = bytearray(path.read_bytes())
    content[link : link + 4] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(everything(path, channel=1), stack[:, 1])
    with open_volume(path, Choice(channel=1)) as reader:
        part = Roi(1, 3, 5, 2, 4, 6)
        np.testing.assert_array_equal(reader.read(part), stack[:, 1][part.slices])
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableFileError):
        open_volume(path)


def write_in_two_files(folder):
    """Write an OME-TIFF whose third and fourth slice are in another file."""
    names = [folder / "a.ome.tif", folder / "b.ome.tif"]
    parts = [example("uint8")[:2], example("uint8")[2:4]]
    data = "".join(
        f'<TiffData FirstZ="{2 * n + z}" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="{name.name}">urn:uuid:{n}</UUID></TiffData>'
        for n, name in enumerate(names)
        for z in range(2)
    )
    _, height, width = SHAPE
    for n, (name, part) in enumerate(zip(names, parts, strict=True)):
        description = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{n}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeZ="4" '
            f'SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>{data}</Pixels>'
            "</Image></OME>"
        )
        tifffile.imwrite(name, part, description=description, metadata=None)
    return names


def test_an_ome_tiff_in_several_files_is_one_volume(tmp_path):
    names = write_in_two_files(tmp_path)
    np.testing.assert_array_equal(everything(names[0]), example("uint8")[:4])
    with open_volume(names[0]) as reader:
        assert reader.info.files == tuple(names)
        whole = reader.fingerprint()
    tifffile.imwrite(names[1], example("uint8")[3:1:-1], metadata=None)
    with open_volume(names[0]) as reader:
        assert reader.fingerprint() != whole


def test_a_missing_file_of_several_is_told(tmp_path):
    names = write_in_two_files(tmp_path)
    names[1].unlink()
    with pytest.raises(UnreadableFileError, match="image 2 is missing"):
        open_volume(names[0])
