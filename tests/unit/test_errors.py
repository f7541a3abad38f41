"""Errors are not changed on their way; another one of the same kind replaces them."""

import pytest

from b2d.drivers.virtualbox.calls import VirtualBoxError
from b2d.errors import B2dError, InvalidStateError


@pytest.mark.parametrize("error", [InvalidStateError("it is off", hint="b2d up"), VirtualBoxError(5, "no\nmore")])
def test_replace_returns_another_error_of_the_same_type(error: B2dError) -> None:
    before = dict(vars(error))
    other = error.replace(hint="b2d restart", exit_code=255)
    assert type(other) is type(error)
    assert vars(other) == before | {"hint": "b2d restart", "exit_code": 255}
    assert (str(other), other.details) == (str(error), error.details)
    assert (dict(vars(error)), error.exit_code) == (before, type(error).exit_code)
    assert str(error.replace(message="another")) == "another"
