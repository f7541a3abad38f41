"""Another user's prompt: its processes really run as that user, even if Python is in root's home."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import LIMIT_S, Result
from tests.support.paths import ROOT

START = "import sys; sys.argv[0] = 'b2d'; from b2d.__main__ import main; main()"


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Yield a folder that other users can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="b2d-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class Stranger:
    """A user with this uid, whose home directory is `folder`."""

    uid: int
    folder: Path
    umask: int = 0o022

    def b2d(self, *arguments: str, without: Collection[str] = ()) -> Result:
        """Run b2d without some variables; folders that only root can reach are passed as open descriptors."""
        places = [Path(sys.base_prefix), Path(sysconfig.get_path("purelib")), ROOT]
        opened = [os.open(place, os.O_PATH) for place in places]
        python, *libraries = [f"/proc/self/fd/{number}" for number in opened]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        known = {
            "HOME": str(self.folder),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/sh",
            "B2D_DRIVER": "qemu",
        }
        known |= {"PYTHONHOME": python, "PYTHONPATH": os.pathsep.join(libraries), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            completed = subprocess.run(
                [f"{python}/bin/python{version}", "-c", START, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_S,
                cwd="/",
                env={name: value for name, value in known.items() if name not in without},
                user=self.uid,
                group=self.uid,
                extra_groups=[],
                umask=self.umask,
                pass_fds=opened,
                check=False,
            )
        finally:
            for number in opened:
                os.close(number)
        return Result(completed.returncode, completed.stdout.decode(), completed.stderr.decode())
