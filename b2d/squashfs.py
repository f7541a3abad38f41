"""A squashfs written anew without compression: reading it costs an emulated CPU nothing then."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d import proc
from b2d.errors import B2dError

UNPACK, PACK = "unsquashfs", "mksquashfs"
LIMIT_S = 300.0
STORED = ("-noI", "-noD", "-noF", "-noX")  # inodes, data, fragments, extended attributes: nothing is compressed


def write_stored(packed: Path, output: Path) -> bool:
    """Write the squashfs `packed` to `output` without compression, all or nothing; needs no root.

    False where squashfs-tools are missing, or too old (before 4.5) to hand files over with their owners: then the
    packed one has to do. The same tools write the same bytes.
    """
    if shutil.which(UNPACK) is None or shutil.which(PACK) is None:
        return False
    with TemporaryDirectory(dir=output.parent, prefix=".b2d-") as work:
        files, written = Path(work) / "files", Path(work) / "root"
        try:
            proc.check([UNPACK, "-quiet", "-pf", str(files), str(packed)], timeout_s=LIMIT_S)
            options = ["-pf", str(files), "-noappend", "-no-progress", "-quiet", "-mkfs-time", "0"]
            proc.check([PACK, "-", str(written), *options, *STORED], timeout_s=LIMIT_S)
        except B2dError:
            return False
        written.chmod(0o600)
        written.replace(output)
    return True
