import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import LabelConfigError
from biosegment.labels import BACKGROUND, PALETTE, LabelMap, labelling_config

names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=12).map(
    str.strip
)
label_lists = st.lists(names.filter(bool), min_size=1, max_size=9, unique=True).filter(
    lambda labels: labels != [BACKGROUND]
)
BOMB = """<?xml version="1.0"?>
<!DOCTYPE View [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<View><Image name="i" value="$image"/><BrushLabels name="l" toName="i">
<Label value="&b;"/></BrushLabels></View>"""


def config(labels, image='<Image name="img" value="$em"/>', control="BrushLabels"):
    return f'<View>{image}<{control} name="tag" toName="img">{labels}</{control}></View>'


@given(label_lists, st.booleans())
def test_labels_come_back_from_the_configuration_that_is_made_of_them(labels, slices):
    label_map = LabelMap.from_config(labelling_config(labels, slices=slices))
    assert label_map.names == (BACKGROUND, *(name for name in labels if name != BACKGROUND))
    assert label_map.has_background_brush == (BACKGROUND in labels)
    assert label_map.data_key == ("slices" if slices else "image")
    assert [label_map.index(name) for name in label_map.names] == list(range(len(label_map.names)))


def test_markup_in_a_name_stays_a_name():
    label_map = LabelMap.from_config(labelling_config(['a<b&"c"', "it's ]]> $x"]))
    assert label_map.names == (BACKGROUND, 'a<b&"c"', "it's ]]> $x")


def test_spaces_around_a_name_are_dropped():
    label_map = LabelMap.from_config(labelling_config([" mitochondria", "vesicle "]))
    assert label_map.names == (BACKGROUND, "mitochondria", "vesicle")


def test_labels_have_colours_of_their_own():
    labels = [f"class {i}" for i in range(len(PALETTE))]
    label_map = LabelMap.from_config(labelling_config([BACKGROUND, *labels]))
    assert len(set(label_map.colours)) == len(label_map.names) == len(labels) + 1


@pytest.mark.parametrize("labels", [[], [""], ["a", " "], ["a", "a"], ["a", "a "], ["background"]])
def test_labels_that_cannot_be_told_apart_or_segmented_are_refused(labels):
    with pytest.raises(LabelConfigError):
        labelling_config(labels)


def test_a_configuration_of_someone_else_is_read():
    text = config(
        '<Label value="vesicle" background="#123456"/><Label value="background"/>'
        '<Label value="mt"/>'
    )
    label_map = LabelMap.from_config(text)
    assert label_map.names == (BACKGROUND, "vesicle", "mt")
    assert label_map.colours[1] == "#123456"
    assert label_map.has_background_brush
    assert (label_map.control, label_map.image, label_map.data_key) == ("tag", "img", "em")


def test_the_brush_that_paints_on_an_image_is_taken():
    text = (
        '<View><Text name="t" value="$note"/><Image name="i" value="$em"/>'
        '<BrushLabels name="other" toName="t"><Label value="x"/></BrushLabels>'
        '<BrushLabels name="brush" toName="i"><Label value="y"/></BrushLabels></View>'
    )
    assert LabelMap.from_config(text).control == "brush"


def test_a_list_of_images_is_recognised():
    text = config('<Label value="a"/>', image='<Image name="img" valueList="$stack"/>')
    assert LabelMap.from_config(text).data_key == "stack"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not plain XML"),
        ("None", "not plain XML"),
        ("<View>", "not plain XML"),
        ("<View>\x00</View>", "not plain XML"),
        ("<View>\ud800</View>", "not plain XML"),
        ("<View/>", "no BrushLabels"),
        (config('<Label value="a"/>', control="RectangleLabels"), "no BrushLabels"),
        (config('<Label value="a"/>', image='<Image name="x" value="$em"/>'), "no BrushLabels"),
        (config(""), "no label to segment"),
        (config('<Label value="background"/>'), "no label to segment"),
        (config("".join(f'<Label value="{i}"/>' for i in range(300))), "more than 254"),
    ],
)
def test_a_configuration_without_a_brush_is_refused(text, said):
    with pytest.raises(LabelConfigError, match=said):
        LabelMap.from_config(text)


def test_entities_are_not_expanded():
    with pytest.raises(LabelConfigError, match="not plain XML"):
        LabelMap.from_config(BOMB)


def test_an_unknown_label_is_named_with_the_known_ones():
    label_map = LabelMap.from_config(labelling_config(["mitochondria"]))
    with pytest.raises(LabelConfigError, match="'golgi', only background, mitochondria"):
        label_map.index("golgi")
