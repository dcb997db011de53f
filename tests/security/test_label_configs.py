"""Labelling configurations that expand, call out, are absurdly large, or carry markup."""

import pytest

from biosegment.errors import LabelConfigError
from biosegment.labels import LabelMap, labelling_config

VIEW = (
    "<View><Image name='i' value='$image'/><BrushLabels name='b' toName='i'>{}</BrushLabels></View>"
)


def refused(http, config):
    """Return why the backend refuses a configuration, on every route that takes one."""
    answers = [
        http.post("/validate", json={"config": config}),
        http.post("/setup", json={"project": "1.1", "schema": config}),
        http.post("/predict", json={"project": "1.1", "tasks": [], "label_config": config}),
    ]
    assert {answer.status_code for answer in answers} == {422}
    (said,) = {answer.json["error"] for answer in answers}
    return said


def test_entities_are_not_expanded(http):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE v [<!ENTITY l0 "lol">{laughs}]>' + VIEW.format("<Label value='&l9;'/>")
    assert "not plain XML" in refused(http, bomb)


def test_nothing_outside_is_read(http, site, tmp_path):
    (tmp_path / "secret").write_text("the-secret")
    for system in (f"file://{tmp_path}/secret", f"{site.url}/x", "/etc/passwd"):
        entity = f'<!DOCTYPE v [<!ENTITY x SYSTEM "{system}">]>' + VIEW.format(
            "<Label value='&x;'/>"
        )
        assert "the-secret" not in refused(http, entity)
        with_parameter = f'<!DOCTYPE v [<!ENTITY % x SYSTEM "{system}"> %x;]><View/>'
        refused(http, with_parameter)
        refused(http, f'<!DOCTYPE v SYSTEM "{system}"><View/>')
        refused(
            http,
            f'<View xmlns:x="http://www.w3.org/2001/XInclude"><x:include href="{system}"/></View>',
        )
    assert site.asked == []


def test_an_enormous_configuration_is_not_parsed(http):
    assert "more than 1000000" in refused(http, VIEW.format("<Label value='a'/>" * 100_000))


@pytest.mark.parametrize("config", ["<View>" * 100_000 + "</View>" * 100_000, "<View>" * 100_000])
def test_a_deeply_nested_configuration_is_read_or_refused(http, config):
    refused(http, config)


def test_thousands_of_labels_are_refused(http):
    labels = "".join(f"<Label value='l{n}'/>" for n in range(5000))
    assert "more than 254 labels" in refused(http, VIEW.format(labels))


@pytest.mark.parametrize("name", ["x" * 101, "two&#10;lines", "tab&#9;"])
def test_names_that_cannot_be_shown_are_refused(http, name):
    assert "name" in refused(http, VIEW.format(f"<Label value='{name}'/>"))


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x07"])
def test_control_characters_are_no_xml(http, character):
    assert "not plain XML" in refused(http, VIEW.format(f"<Label value='a{character}'/>"))


def test_markup_in_a_name_is_a_name():
    name = "<script>alert('a')</script>\"&../../b"
    assert LabelMap.from_config(labelling_config([name])).names == ("background", name)


def test_a_name_of_a_label_cannot_be_a_line_of_its_own():
    with pytest.raises(LabelConfigError, match="more than one line"):
        labelling_config(["mito\nchondria"])
