"""A machine that VirtualBox lost from its list, or remembers in another place, is taken up as it lies on disk."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.drivers.virtualbox.errors import translate_errors
from b2d.drivers.virtualbox.hardware import DISK, Constant, open_arguments
from b2d.host.files import read_text_tail

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox


def reregister(box: "VirtualBox", settings: Path, disk: Path) -> None:
    """Register the machine of that settings file; its data disk is `disk`, wherever that was when it was written."""
    with translate_errors():
        _forget_where_it_was(box, settings)
        opened = box.call("openMachine", *open_arguments(str(settings), box.api))
        box.call("registerMachine", opened)
        hard_disk = box.number(Constant("DeviceType", DISK))
        for attached in box.array("mediumAttachments", opened):
            if attached.type == hard_disk and attached.medium is not None:
                medium = attached.medium.base
                there = Path(str(medium.location))
                if there != disk and there.name == disk.name and not there.exists():
                    medium.location = str(disk)


def _forget_where_it_was(box: "VirtualBox", settings: Path) -> None:
    """The same machine in the list, under a settings file that is gone, is in the way."""
    found = re.search(r"<Machine\s[^<>]{0,10000}?uuid=\"\{([0-9a-fA-F-]{1,50})\}\"", read_text_tail(settings))
    itself = found[1] if found else ""
    for machine in box.array("machines"):
        there = Path(str(machine.settingsFilePath))
        if str(machine.id) == itself and not there.exists():
            library = box.pyvbox.library
            library.IMachine(machine).unregister(library.CleanupMode.detach_all_return_none)
            box.forget_media([there.parent.parent])
