"""OpenSSH's client reads the generated configuration as intended, whatever the paths."""

import subprocess
from pathlib import Path

import pytest

from b2d.guest.ssh.openssh_config import config_block
from b2d.paths import MachinePaths


def read_by_ssh(folder: Path, config: str) -> dict[str, str]:
    """Return the options that `ssh -G` reads."""
    file = folder / "config"
    file.write_text(config)
    stdout = subprocess.run(["ssh", "-F", file, "-G", "box"], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in stdout.splitlines() if " " in line)


@pytest.mark.parametrize("name", ["plain", "two words", "100%d", "it's", "grüße 🐳", "#1"])
def test_special_characters_in_paths_are_preserved(tmp_path: Path, name: str) -> None:
    paths = MachinePaths(tmp_path / name / "machines" / "box")
    options = read_by_ssh(tmp_path, config_block("box", "127.0.59.103", 2022, paths))
    assert (options["hostname"], options["port"], options["user"]) == ("127.0.59.103", "2022", "docker")
    assert options["identityfile"].replace("%%", "%") == str(paths.ssh_key)
    assert options["userknownhostsfile"].strip('"').replace("%%", "%") == str(paths.known_hosts)
    assert (options["hostkeyalias"], options["stricthostkeychecking"]) == ("b2d-box", "true")
    assert (options["identitiesonly"], options["identityagent"]) == ("yes", "none")
