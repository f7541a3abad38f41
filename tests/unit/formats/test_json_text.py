"""Foreign JSON is parsed up to its first error, and its values are checked for their types."""

import pytest

from b2d.formats import json_text
from b2d.models import DockerEnv, Extent


@pytest.mark.parametrize("deep", ["[" * 200 + "]" * 200, '{"a":' * 199 + "[]" + "}" * 199])
def test_json_is_parsed_up_to_the_maximum_depth(deep: str) -> None:
    assert json_text.parse(deep) == json_text.parse(deep.encode()) == json_text.parse(deep.encode("utf-16"))


def test_many_short_lists_are_not_nested() -> None:
    assert len(json_text.parse("[" + "[]," * 5000 + "[]]")) == 5001


@pytest.mark.parametrize("deep", ["[" * 201 + "]" * 201, '{"a":' * 200 + "[]" + "}" * 200, '[{"a":[' * 90 + "]}]" * 90])
def test_deeper_json_is_a_value_error(deep: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        json_text.parse(deep)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e400", "[-1e999]"])
def test_an_infinite_number_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        json_text.parse(text)


@pytest.mark.parametrize("value", [None, 7, "x", {"x": 1}, ["x", 1], ("x",), [["x"]]])
def test_a_value_that_is_not_a_list_of_strings_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="not a list of strings"):
        json_text.texts(value)
    assert json_text.texts(["x", ""]) == ["x", ""]


@pytest.mark.parametrize("value", [None, 7, ["x"], b"x"])
def test_a_value_that_is_not_a_string_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="not a string"):
        json_text.text(value)
    assert json_text.text("") == ""


def test_named_tuples_are_objects_at_any_depth() -> None:
    document = json_text.document({"a": (Extent(1, 2), None), "b": [DockerEnv("x")]})
    assert document == {"a": [{"offset": 1, "size": 2}, None], "b": [{"host": "x", "cert_path": ""}]}
    assert json_text.document((("x", 1), Extent(1, 2))) == [["x", 1], {"offset": 1, "size": 2}]
