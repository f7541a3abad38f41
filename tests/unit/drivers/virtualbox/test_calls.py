"""A failed operation of VirtualBox is reported with its reason, or with its number without one."""

from types import SimpleNamespace

import pytest

from b2d.drivers.virtualbox.calls import VirtualBoxError, wait_for_progress

FAILED = -2147467259  # NS_ERROR_FAILURE as pyvbox returns it


@pytest.mark.parametrize(
    ("error_info", "message"),
    [
        (SimpleNamespace(text="The disk is full"), "The disk is full"),
        (SimpleNamespace(), "error 0x80004005"),
    ],
)
def test_a_failed_operation_raises_its_reason(error_info: SimpleNamespace, message: str) -> None:
    progress = SimpleNamespace(completed=True, result_code=FAILED, error_info=error_info)
    with pytest.raises(VirtualBoxError) as refused:
        wait_for_progress(progress, "the disk", 1)
    assert (refused.value.code, refused.value.message) == (0x80004005, f"VirtualBox: {message}")
