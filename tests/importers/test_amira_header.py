import io
from pathlib import Path

import pytest

from biosegment.errors import UnreadableFileError
from importers.amira_header import AmiraHeader

FIRST = "# AmiraMesh BINARY-LITTLE-ENDIAN 3.0\n"
DATA = "# Data section follows\n@1\n\0\0\0@2\n"


def read(text, first=FIRST):
    file = io.BytesIO((first + text + DATA).encode())
    header = AmiraHeader.read(Path("a.am"), file)
    assert file.read(3) == b"@1\n"
    return header


def test_blocks_lie_in_blocks_however_they_are_written():
    text = """
    Parameters {
        Materials { Exterior { Id 1 }
            "Golgi apparatus"
            {
                Color 1 0 0,
                Id 2 } { Name Rest } }
        Units { Coordinates "µm" } # a remark, { not a block
        History "he said \\"{\\" and
left", Empty ""
        Matrix 1 0
               0 1
    }
    """
    header = read(text)
    materials = header.find("Parameters", "Materials")
    assert [entry.name for entry in materials.block] == ["Exterior", "Golgi apparatus", ""]
    assert materials.block[1].block[0].values == ["1", "0", "0"]
    assert materials.block[2].block[0].values == ["Rest"]
    assert header.find("Parameters", "Units", "Coordinates").values == ["µm"]
    assert header.find("Parameters", "Empty").values == [""]
    assert header.find("Parameters", "Matrix").values == ["1", "0"]
    assert header.find("Parameters", "Absent", "Coordinates") is None


def test_arrays_are_told_with_their_place():
    text = """
    define Lattice 4 3 2
    define Vertices 7
    Lattice { byte Labels } @1(HxByteRLE,123)
    Lattice { float[3] Flow } = @2
    Vertices { double Weight } @3( HxZip, 45 )
    Faces { int Index } @4
    """
    fields = read(text).fields
    assert [(field.name, field.sizes, field.section) for field in fields] == [
        ("Labels", (4, 3, 2), 1),
        ("Flow", (4, 3, 2), 2),
        ("Weight", (7,), 3),
    ]
    assert [(field.kind, field.components) for field in fields] == [
        ("byte", 1),
        ("float", 3),
        ("double", 1),
    ]
    assert [(field.packing, field.packed_bytes) for field in fields] == [
        ("HxByteRLE", 123),
        ("", 0),
        ("HxZip", 45),
    ]
    assert fields[1].count == 72


@pytest.mark.parametrize(
    ("first", "order"),
    [
        (FIRST, "<"),
        ("# AmiraMesh 3D BINARY 2.0\n", ">"),
        ("# AmiraMesh BINARY 1.0\r\n", ">"),
        ("#AmiraMesh 3D ASCII 2.0\n", ""),
        ("# Avizo BINARY-LITTLE-ENDIAN 2.1\n", "<"),
    ],
)
def test_the_first_line_tells_the_order_of_bytes(first, order):
    assert read("", first).order == order


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Parameters {" * 60, "braces"),
        ("}", "braces"),
        ("define Lattice four\n", "invalid literal"),
        ("define Lattice 4\nLattice { byte* Labels } @1\n", "no values of type"),
    ],
)
def test_what_makes_no_sense_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        read(text)


@pytest.mark.timeout(20)
def test_a_long_header_takes_no_more_than_its_length():
    header = read('{ \\"' * 5 + '\\"' * 1_000_000)
    assert header.fields == ()


def test_a_header_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("importers.amira_header._LONGEST_HEADER_BYTES", 1000)
    file = io.BytesIO(FIRST.encode() + b"Parameters\n" * 300)
    with pytest.raises(UnreadableFileError, match="does not end"):
        AmiraHeader.read(Path("a.am"), file)


def test_a_header_without_data_is_refused():
    with pytest.raises(UnreadableFileError, match="no data follow"):
        AmiraHeader.read(Path("a.am"), io.BytesIO(FIRST.encode()))
