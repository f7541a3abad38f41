"""Enlarge the data partition of a guest that reads no seed disk: boot2docker's own image does it only when it formats.

Its partitions are those of files/init.d/autoformat in github.com/boot2docker/boot2docker: the data is in the last one.
"""

from b2d.guest.base import Guest
from b2d.machine_names import command_for
from b2d.models import MachineSpec
from b2d.reporting.base import Reporter

ENLARGE_S = 300.0
ENLARGED = "enlarged"
MIN_GROWTH = 131072  # sectors, 64 MiB: another partitioning program may have left less than that free at the end
# sfdisk writes the same table without the last partition's size and the disk's: both then reach to the end. partx tells
# the kernel, which reads no table of a disk in use.
ENLARGE = f"""\
set -e
part=$(df -P /var/lib/docker/. | awk 'NR == 2 {{ print $1 }}')
block=/sys/class/block/${{part##*/}}
[ -e "$block/partition" ] || exit 0
start=$(cat "$block/start")
end=$((start + $(cat "$block/size")))
[ $(($(cat "$block/../size") - end)) -ge {MIN_GROWTH} ] || exit 0
for other in "$block"/../*/start; do [ "$(cat "$other")" -le "$start" ] || exit 0; done
disk=/dev/$(basename "$(readlink -f "$block/..")")
table=$(sfdisk -d "$disk")
printf '%s\\n' "$table" | grep -q "^$part .* size= *[0-9]*,"
printf '%s\\n' "$table" | sed -e '/^last-lba/d' -e "s|^\\($part .*\\) size= *[0-9]*,|\\1|" |
    sfdisk -q --no-reread --force "$disk"
partx -u "$disk"
resize2fs "$part"
echo {ENLARGED}
"""


def enlarge_partition(guest: Guest, spec: MachineSpec, reporter: Reporter) -> None:
    """Have the data partition reach to the end of a disk that this host enlarged; a failure is a warning."""
    result = guest.run(f"sudo sh <<'END'\n{ENLARGE}END\n", ENLARGE_S)
    if result.exit_code == 0:
        if result.stdout.decode(errors="replace").endswith(f"{ENLARGED}\n"):
            reporter.note(f"the data partition of {spec.name} was enlarged with its disk")
        return
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    reporter.warn(
        f"the disk of {spec.name} is larger than its data partition, which the guest cannot enlarge: "
        f"{lines[-1] if lines else f'exit code {result.exit_code}'}; see: {command_for('ssh', spec.name)}"
    )
