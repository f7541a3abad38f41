"""Shared folders in a guest that reads no seed disk: mounted and unmounted over SSH, where its kernel can."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from b2d.drivers.base import Driver, MountsFolders
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import folder_paths, seed
from b2d.guest.base import Guest
from b2d.machine_names import command_for
from b2d.models import MachineSpec

COMMAND_S = 60.0
NO_SUPPORT = "no-support"
MOUNTED, LACKING = "mounted ", "lacking "  # before the number of a folder
# Both scripts read a line for each folder, NAME MODE PATH. With 9p owners are the host's, with vboxsf the user docker.
MOUNT = f"""\
sudo modprobe -a 9pnet_virtio 9p >/dev/null 2>&1; sudo modprobe vboxsf >/dev/null 2>&1
for kind in 9p vboxsf none; do grep -qw "$kind" /proc/filesystems && break; done
[ "$kind" != none ] || {{ echo {NO_SUPPORT}; exit; }}
case $kind in
9p) options=trans=virtio,version=9p2000.L,msize=262144,cache=none ;;
vboxsf) options=uid=$(id -u),gid=$(id -g) ;;
esac
number=0
while IFS= read -r line; do
    rest=${{line#* }}; name=${{line%% *}}; mode=${{rest%% *}}; path=${{rest#* }}
    grep -q "^$name " /proc/mounts || {{ sudo mkdir -p "$path" &&
        sudo mount -t $kind -o "$mode,$options" "$name" "$path" 2>/dev/null; }} || echo "{LACKING}$number"
    number=$((number + 1))
done
"""
# A container has mounts of its own. A folder that it has cannot be mounted again elsewhere, so it is not unmounted.
UNMOUNT = f"""\
own=$(sudo readlink /proc/1/ns/mnt)
is_in_container() {{
    for file in $(sudo grep -ls " - 9p $1 " /proc/[0-9]*/mountinfo); do
        namespace=$(sudo readlink "${{file%mountinfo}}ns/mnt") # none of a process that has ended
        [ -z "$namespace" ] || [ "$namespace" = "$own" ] || return 0
    done
    return 1
}}
number=0
while IFS= read -r line; do
    rest=${{line#* }}; name=${{line%% *}}
    if is_in_container "$name"; then echo "{MOUNTED}$number"
    elif grep -q "^$name " /proc/mounts; then sudo umount "${{rest#* }}" 2>/dev/null || echo "{MOUNTED}$number"
    fi
    number=$((number + 1))
done
"""


@dataclass(frozen=True, slots=True)
class ForeignFolders:
    """The folders of a machine with such a guest, as drivers.base.MountsFolders; `reach` connects to the guest."""

    spec: MachineSpec
    driver: Driver
    reach: Callable[[], Guest]

    def mount_folders(self) -> list[str]:
        """Have the guest mount the folders that it lacks; return the paths of those that it cannot mount."""
        if not self.spec.folders:
            return []
        lines = self._run(MOUNT)
        if NO_SUPPORT in lines:
            command = command_for("upgrade --image debian", self.spec.name)
            raise B2dError(f"its kernel has neither 9p nor vboxsf; b2d's own image has both: {command}")
        return self._paths(lines, LACKING)

    def unmount_folders(self) -> None:
        """Have the guest unmount all folders, where a driver cannot save it with them. Raises InvalidStateError."""
        if not isinstance(self.driver, MountsFolders) or not self.spec.folders:
            return
        if busy := self._paths(self._run(UNMOUNT), MOUNTED):
            raise InvalidStateError(
                f"{self.spec.name} cannot be saved while programs in it use folders of this host: {', '.join(busy)}",
                hint=command_for("stop", self.spec.name),
            )
        self.driver.unmount_folders()

    def _run(self, script: str) -> list[str]:
        folders = map(folder_paths.parse, self.spec.folders)
        lines = "".join(
            f"{seed.share(number)} {'ro' if folder.read_only else 'rw'} {folder.guest}\n"
            for number, folder in enumerate(folders)
        )
        with closing(self.reach()) as guest:
            result = guest.run(f"{{ {script} }} <<'END-OF-FOLDERS'\n{lines}END-OF-FOLDERS\n", COMMAND_S)
        return result.stdout.decode(errors="replace").splitlines()

    def _paths(self, lines: list[str], word: str) -> list[str]:
        """Return the folders that the guest names by their numbers, each once; other text of its counts as nothing."""
        folders = [folder_paths.parse(text).guest for text in self.spec.folders]
        return [path for number, path in enumerate(folders) if f"{word}{number}" in lines]
