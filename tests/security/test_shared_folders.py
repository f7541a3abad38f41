"""Root in a guest is hostile: b2d's own folder, secrets and start-up files of the user are out of its reach."""

import os
from pathlib import Path

import pytest

from b2d.app.wiring import App, make_app
from b2d.drivers.qemu import shared_folders
from b2d.drivers.qemu.launcher import Launcher
from b2d.errors import ConfigError
from b2d.guest import share_overlaps, share_policy
from b2d.machine import boot_preparation, reconfigure
from b2d.models import HARDWARE, MachineSpec, MachineState
from b2d.paths import Home, MachinePaths
from tests.cli.test_images import a_stopped_machine
from tests.support.cli import Prompt
from tests.support.fake_machine import Box
from tests.support.fakes import FakeReporter, a_spec
from tests.unit.drivers.qemu.test_command_line import DIRECT

HIDDEN = (".ssh", ".gnupg", ".aws", ".config/gcloud", ".docker", ".mozilla", ".b2d")
OF_BOX = ("box", "box/disk.qcow2", "box/certs")
PERSONAL = ("Library", "AppData", "snap", "bin", "Applications", "VirtualBox VMs")


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a user's home with projects, secrets and b2d's own folder."""
    home = tmp_path / "me"
    for name in ("src", "My Documents x", *HIDDEN, *PERSONAL):
        (home / name).mkdir(parents=True)
    (home / ".bashrc").write_text("")
    (home / "a file").write_text("")
    (home / "link").symlink_to(home / ".ssh")
    monkeypatch.setenv("HOME", str(home))
    return home


def shared(me: Path, *share: str, b2d_home: Path | None = None) -> list[str]:
    folders = share_policy.select(share, b2d_home or me / ".b2d").folders
    return [str(Path(folder).relative_to(me)) for folder in folders]


def an_app(home: Path, reporter: FakeReporter | None = None, **flags: object) -> App:
    return make_app({"B2D_HOME": str(home)}, flags, reporter or FakeReporter())


def test_by_default_only_visible_project_folders_are_shared(me: Path) -> None:
    assert shared(me, "~/*") == ["My Documents x", "src"]
    assert shared(me, "~/*:ro") == ["My Documents x:ro", "src:ro"]


def test_localised_desktop_folders_are_left_out(me: Path) -> None:
    for name in ("Downloads", "Musik", "Desktop", "Pictures"):
        (me / name).mkdir()
    (me / ".config" / "user-dirs.dirs").write_text('XDG_DESKTOP_DIR="$HOME/Desktop"\nXDG_MUSIC_DIR="$HOME/Musik"\n')
    assert shared(me, "~/*") == ["Desktop", "My Documents x", "src"]
    assert shared(me, "~/Musik") == ["Musik"]


def test_hidden_folders_are_shared_when_named(me: Path) -> None:
    assert shared(me, "~/.docker", "~/bin") == [".docker", "bin"]


def test_folders_in_the_home_of_b2d_or_above_it_are_left_out(me: Path) -> None:
    b2d_home = me / "src" / "b2d"
    b2d_home.mkdir()
    for path in ("~/src", "~/src/b2d", "~/src/b2d/machines", "~/src/b2d/*", "~", "~/src/../src"):
        assert shared(me, path, b2d_home=b2d_home) == [], path
        with pytest.raises(ConfigError, match="where b2d stores its keys"):
            share_policy.check([path], b2d_home)
    assert shared(me, "~/*", b2d_home=b2d_home) == ["My Documents x"]
    (sentence,) = share_policy.select(["~/*"], b2d_home).left_out
    assert str(b2d_home) in sentence
    (me / "src" / "project").mkdir()
    assert shared(me, "~/src/*", b2d_home=b2d_home) == ["src/project"]


@pytest.mark.parametrize(
    "moved",
    ["machines", "images", "cache", "config.toml", "machines/box", "machines/box/disk.qcow2", "machines/box/certs"],
)
def test_targets_of_links_in_the_home_of_b2d_are_left_out(me: Path, tmp_path: Path, moved: str) -> None:
    """The owner moved it by a link: root in the guest could write specs or read keys there."""
    b2d_home, big = me / ".b2d", me / "big"
    place = b2d_home / moved
    place.parent.mkdir(parents=True, exist_ok=True)
    (big / "deep" / "there").mkdir(parents=True)
    (big / "project").mkdir()
    place.symlink_to(big / "deep" / "there")
    assert shared(me, "~/*") == ["My Documents x", "src"]
    assert shared(me, "~/big/*") == ["big/project"]
    for path in ("~/big", "~/big/deep", "~/big/deep/there", "~/big/deep/there/deeper"):
        assert shared(me, path) == [], path
        with pytest.raises(ConfigError, match="where b2d stores its keys"):
            share_policy.check([path], b2d_home)
    assert shared(me, "~/big", b2d_home=tmp_path / "elsewhere") == []


def test_the_installation_of_b2d_is_shared_only_when_named(me: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise root in the guest could act as its owner at the next command."""
    (me / "b2d" / ".venv").mkdir(parents=True)
    monkeypatch.setattr("sys.prefix", str(me / "b2d" / ".venv"))
    assert shared(me, "~/*") == ["My Documents x", "src"]
    (sentence,) = share_policy.select(["~/*"], me / ".b2d").left_out
    reason = f"b2d itself is installed there ({me}/b2d/.venv); to share it, name it in the setting share"
    assert sentence == f"{me}/b2d is not shared with the machine: {reason}"
    assert shared(me, "~/b2d") == ["b2d"]
    assert share_policy.warning(["~/b2d", "~/*"]).endswith(f" {me}/b2d/.venv, because of the setting share")


def test_folders_on_path_are_shared_only_when_named(me: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next command runs programs on PATH; an active virtual environment belongs to a project in use."""
    monkeypatch.setenv("VIRTUAL_ENV", str(me / "project" / "venv"))
    on_path = ["go/bin", "tools", "project/venv/bin", "src/.venv/bin", "src/node_modules/.bin"]
    for name in (*on_path, "Miniconda3/bin"):
        (me / name).mkdir(parents=True)
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", ".", *(str(me / name) for name in on_path)]))
    assert shared(me, "~/*") == ["My Documents x", "project", "src"]
    left_out = share_policy.select(["~/*"], me / ".b2d").left_out
    reason = f"it contains programs, since {me}/go/bin is on PATH; to share it, name it in the setting share"
    assert f"{me}/go is not shared with the machine: {reason}" in left_out
    assert shared(me, "~/go", "~/tools") == ["go", "tools"]


def test_a_home_of_b2d_that_does_not_exist_yet_is_left_out(me: Path) -> None:
    assert shared(me, "~/src", b2d_home=me / "src" / "to" / "come") == []


def test_the_default_home_of_b2d_is_left_out_for_other_homes_too(me: Path, tmp_path: Path) -> None:
    assert shared(me, "~", "~/.b2d", "~/.b2d/machines", b2d_home=tmp_path / "elsewhere") == []
    (me / ".b2d").rmdir()
    assert shared(me, "~", b2d_home=tmp_path / "elsewhere") == ["."]


@pytest.mark.parametrize("way", ["link", "link to a parent", "//", "..", "link in the middle"])
def test_every_spelling_of_the_path_is_recognised(me: Path, tmp_path: Path, way: str) -> None:
    own = me / ".b2d"
    (own / "machines").mkdir()
    (tmp_path / "to-own").symlink_to(own)
    (tmp_path / "to-me").symlink_to(me)
    path = {
        "link": str(tmp_path / "to-own"),
        "link to a parent": str(tmp_path / "to-me"),
        "//": f"//{str(own)[1:]}//",
        "..": f"{me}/src/../.b2d",
        "link in the middle": f"{tmp_path}/to-me/.b2d/machines",
    }[way]
    assert share_policy.select([path], own).folders == ()
    with pytest.raises(ConfigError):
        share_policy.check([path], own)


def test_a_folder_is_identified_by_its_inode_on_case_insensitive_file_systems(
    me: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS and Windows behave this way; here one inode has two names."""
    same = share_overlaps._identity(me / ".b2d")
    really = share_overlaps._identity
    monkeypatch.setattr(share_overlaps, "_identity", lambda path: same if path.name == ".B2D" else really(path))
    assert shared(me, "~/.B2D", "~/.B2D/machines") == []


def test_the_root_of_a_file_system_is_not_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert share_policy.select(["/*"], tmp_path).folders == ()


def test_the_number_of_shared_folders_is_limited_and_the_others_are_named(me: Path) -> None:
    for number in range(share_policy.MAX_FOLDERS):
        (me / f"p{number:02}").mkdir()
    selection = share_policy.select(["~/*"], me / ".b2d")
    assert len(selection.folders) == share_policy.MAX_FOLDERS
    assert "2 folders are not shared" in selection.left_out[0]
    assert str(me / "src") in selection.left_out[0]


def test_sharing_the_whole_home_is_refused_with_a_hint(me: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be shared") as caught:
        an_app(me / ".b2d", share=("~",)).new_machine_spec()
    assert caught.value.hint.startswith('share = ["~/*"]')


def test_secrets_in_a_requested_folder_are_reported(me: Path, tmp_path: Path) -> None:
    (me / ".b2d").rmdir()
    assert f"{me}/.ssh" in share_policy.warning(["~"])
    assert share_policy.warning(["~/*", "~/src"]) == ""


def test_secrets_are_reported_when_a_machine_is_changed_too(me: Path) -> None:
    prompt = Prompt(me)
    a_stopped_machine(prompt, "box")
    (me / "src" / ".ssh").mkdir()
    result = prompt.b2d("set", "share=~/src", "--vm", "box")
    assert (result.code, result.err.count("root in the machine can read and change")) == (0, 1), result.err
    assert f"{me}/src/.ssh" in result.err
    assert "root in the machine" not in prompt.b2d("set", "share=~/*", "--vm", "box").err


def test_new_folders_are_shared_at_the_next_boot_and_a_saved_machine_keeps_its_own(me: Path) -> None:
    reporter, own = FakeReporter(), me / ".b2d"
    spec = a_spec(share=(f"{me}/*",), folders=(f"{me}/src",))
    (me / "new").mkdir()
    booted = boot_preparation.shared_folders(spec, own, MachineState.STOPPED, reporter)
    assert booted.folders == (f"{me}/My Documents x", f"{me}/new", f"{me}/src")
    assert boot_preparation.shared_folders(spec, own, MachineState.SAVED, reporter) == spec
    assert reporter.texts("warn") == []


def test_a_machine_of_an_older_b2d_no_longer_shares_the_whole_home_after_its_next_boot(me: Path) -> None:
    reporter, own = FakeReporter(), me / ".b2d"
    spec = a_spec(folders=(str(me), "/data:ro"))
    saved = boot_preparation.shared_folders(spec, own, MachineState.SAVED, reporter)
    assert saved == spec
    assert f"all of {me} was shared; to share only its visible folders: b2d restart" in reporter.texts("warn")[0]
    booted = boot_preparation.shared_folders(spec, own, MachineState.STOPPED, reporter)
    assert booted.share == (f"{me}/*", "/data:ro")
    assert booted.folders == (f"{me}/My Documents x", f"{me}/src", "/data:ro")
    assert len(reporter.texts("note")) == 1
    assert boot_preparation.shared_folders(booted, own, MachineState.STOPPED, reporter) == booted
    assert len(reporter.texts("note")) == 1

    assert shared(me, "~/src:ro", "~/src/app") == ["src:ro", "src/app"]


def test_a_machine_without_shared_folders_gets_none(me: Path) -> None:
    spec = a_spec()
    assert boot_preparation.shared_folders(spec, me / ".b2d", MachineState.STOPPED, FakeReporter()) == spec


def launcher(tmp_path: Path, saved: tuple[str, ...] = (), *shared: str) -> Launcher:
    paths = Home(tmp_path / "own").machine("m")
    spec = a_spec(folders=shared)
    return Launcher(spec, paths, lambda: DIRECT, "tcg", "9p", saved)


def test_a_link_that_replaced_a_shared_folder_is_not_followed_into_the_home_of_b2d(tmp_path: Path) -> None:
    """The folder that `up` checked may be replaced before the hypervisor starts, also on resume."""
    own = tmp_path / "own" / "machines" / "other"
    own.mkdir(parents=True)
    (tmp_path / "project").symlink_to(own)
    for saved in ((), ("-fsdev",)):
        assert launcher(tmp_path, saved, str(tmp_path / "project")).plan().missing == (0,)


def test_only_a_machine_saved_with_it_keeps_a_folder_above_the_home_of_b2d(tmp_path: Path) -> None:
    assert launcher(tmp_path, (), str(tmp_path)).plan().missing == (0,)
    assert launcher(tmp_path, ("-fsdev",), str(tmp_path)).plan().missing == ()


def test_the_checked_path_is_the_shared_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spec = shared_folders.resolve_paths(a_spec(folders=(f"{tmp_path}/link:ro",)))
    assert spec.folders == (f"{tmp_path}/real:ro",)


def test_changed_folders_take_effect_at_the_next_boot(box: Box, me: Path) -> None:
    box.create_machine(folders=(f"{me}/src",), share=(f"{me}/src",))

    def says(share: str) -> MachineSpec:
        reconfigure.apply_changes(box.machine(), reconfigure.requested_changes({"share": share}))
        spec = box.store.read("box")
        assert spec is not None
        return spec

    spec = says("none")
    assert spec.folders == (f"{me}/src",)  # until its next boot
    assert boot_preparation.shared_folders(spec, me / ".b2d", MachineState.STOPPED, FakeReporter()).folders == ()
    assert says("~/*").share == (f"{me}/*",)
    with pytest.raises(ConfigError, match="cannot be shared"):
        says(str(box.paths.folder))


def test_machine_paths_know_their_home(tmp_path: Path) -> None:
    assert Home(tmp_path).machine("m").home == tmp_path
    assert MachinePaths(tmp_path / "m").home == tmp_path / "m"
    assert a_spec()._replace(share=("~/*",)).share == ("~/*",)


def test_many_folders_fit_on_the_pci_bus(tmp_path: Path) -> None:
    spec = a_spec(folders=tuple(f"/data/{number}" for number in range(share_policy.MAX_FOLDERS)), hardware=HARDWARE)
    words = shared_folders.build_arguments(spec, MachinePaths(tmp_path))
    places = [word.rpartition("addr=")[2] for word in words if word.startswith("virtio-9p")]
    assert places[:2] == ["0x10.0,multifunction=on", "0x10.1"]
    assert len(set(places)) == share_policy.MAX_FOLDERS
    assert max(int(place.partition(".")[0], 16) for place in places) < 32
    few = shared_folders.build_arguments(a_spec(folders=("/data/1",), hardware=HARDWARE), MachinePaths(tmp_path))
    assert "virtio-9p-pci,fsdev=b2d-0,mount_tag=b2d-0" in few
