"""Foreign numbers are decimal digits within a range, or rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.formats import numbers


@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_a_number_within_the_range_is_read(number: int, largest: int) -> None:
    if number <= largest:
        assert numbers.parse(str(number), largest) == numbers.parse(str(number).encode(), largest) == number
    else:
        with pytest.raises(ValueError, match="not a number from 0"):
            numbers.parse(str(number), largest)


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.integers(max_value=0), st.integers(65536)))
def test_an_invalid_port_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="not a port from 1 to 65535"):
        numbers.port(value)


def test_a_port_is_valid_within_its_range() -> None:
    assert [numbers.port(port) for port in (1, 80, 65535)] == [1, 80, 65535]


@pytest.mark.parametrize("value", [-1, 8, True, "7", 7.0, None, 10**400, [7]])
def test_a_number_outside_the_range_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match="not a number from 0 to 7"):
        numbers.whole(value, 0, 7)
    assert [numbers.whole(number, 0, 7) for number in (0, 7)] == [0, 7]
