"""Foreign TOML is read with a size limit."""

import pytest

from b2d.formats import toml_document


def test_a_document_is_read() -> None:
    assert toml_document.parse('a = 1\n[b]\nc = ["x"]\n') == {"a": 1, "b": {"c": ["x"]}}


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "a = " + "[" * 5000, "a = " + "9" * 5000])
def test_invalid_toml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        toml_document.parse(text)


def test_a_document_that_is_too_long_is_not_parsed() -> None:
    longest = "#" + "x" * (toml_document.SIZE_LIMIT - 1)
    assert toml_document.parse(longest) == {}
    with pytest.raises(ValueError, match="more than"):
        toml_document.parse(longest + "x")
