import json

import pytest

from biosegment.errors import TileExportError
from biosegment.exported_tiles import TILES_FILE, ExportedTile, TileExport, digest
from biosegment.geometry import Roi

TILE = ExportedTile(7, "a.tif", Roi(1, 2, 3, 4, 5, 6), "0" * 64)
EXPORT = TileExport(3, "vnc", {1: "cell"}, "labels", None, (TILE,))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"labels")
    EXPORT.write(tmp_path)
    return tmp_path


def test_reads_what_was_written(folder):
    assert TileExport.read(folder) == EXPORT


def test_a_missing_file_is_told_with_the_remedy(folder):
    (folder / "a.tif").unlink()
    with pytest.raises(TileExportError, match=r"a\.tif is missing; save .* old name"):
        TileExport.read(folder)


@pytest.mark.parametrize("name", ["../a.tif", "/etc/passwd", "..", "", "b/a.tif"])
def test_no_name_leads_out_of_the_folder(folder, name):
    found = json.loads((folder / TILES_FILE).read_text())
    found["tiles"][0]["labels"] = name
    (folder / TILES_FILE).write_text(json.dumps(found))
    with pytest.raises(TileExportError, match="no name of a file"):
        TileExport.read(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"project": 1, "classes": [], "tiles": 3}'])
def test_another_file_of_that_name_is_told(folder, text):
    (folder / TILES_FILE).write_text(text)
    with pytest.raises(TileExportError, match=TILES_FILE):
        TileExport.read(folder)


def test_a_digest_tells_content_of_files_and_folders(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    assert digest(one) == digest(two)
    two.write_bytes(b"else")
    assert digest(one) != digest(two)
    folder = tmp_path / "a.zarr"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "c").write_bytes(b"1")
    before = digest(folder)
    (folder / "0" / "d").write_bytes(b"")
    assert digest(folder) != before
