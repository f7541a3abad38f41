"""VirtualBox's Python binding is found on each system without asking the user."""

from pathlib import Path

import pytest

from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.errors import HypervisorError

DEBIAN = "usr/lib/python3/dist-packages/vboxapi"
ORACLE = "opt/VirtualBox/sdk/installer/python/vboxapi/src/vboxapi"
ORACLE_OF_6_1 = "usr/lib/virtualbox/sdk/installer/vboxapi"
FEDORA = "usr/lib64/python3.13/site-packages/vboxapi"
MACOS = "Applications/VirtualBox.app/Contents/MacOS/sdk/installer/python/vboxapi/src/vboxapi"


def a_package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    return folder


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def places(root: Path, platform: str = "linux", **environment: str) -> SearchPaths:
    return SearchPaths(platform, root, environment)


@pytest.mark.parametrize(
    ("platform", "where"),
    [("linux", DEBIAN), ("linux", ORACLE), ("linux", ORACLE_OF_6_1), ("linux", FEDORA), ("darwin", MACOS)],
)
def test_the_binding_is_found_where_each_system_installs_it(tmp_path: Path, platform: str, where: str) -> None:
    folder = a_package(tmp_path / where)
    assert places(tmp_path, platform).vboxapi() == folder


def test_on_windows_it_is_found_below_the_folder_of_the_installer(tmp_path: Path) -> None:
    folder = a_package(tmp_path / "VBox" / "sdk" / "installer" / "python" / "vboxapi" / "src" / "vboxapi")
    assert places(tmp_path, "win32", VBOX_MSI_INSTALL_PATH=str(tmp_path / "VBox")).vboxapi() == folder


def test_the_binding_of_the_distribution_precedes_that_of_the_sdk(tmp_path: Path) -> None:
    a_package(tmp_path / ORACLE)
    folder = a_package(tmp_path / DEBIAN)
    assert places(tmp_path).vboxapi() == folder


@pytest.mark.parametrize("given", ["mine", "mine/vboxapi"])
def test_the_setting_comes_first_and_may_name_the_parent_folder(tmp_path: Path, given: str) -> None:
    a_package(tmp_path / DEBIAN)
    folder = a_package(tmp_path / "mine" / "vboxapi")
    assert places(tmp_path).vboxapi(str(tmp_path / given)) == folder


def test_a_setting_that_names_a_missing_folder_is_reported(tmp_path: Path) -> None:
    a_package(tmp_path / DEBIAN)
    with pytest.raises(HypervisorError, match="/nowhere does not contain vboxapi") as caught:
        places(tmp_path).vboxapi("/nowhere")
    assert caught.value.hint


def test_the_package_to_install_is_reported(tmp_path: Path) -> None:
    for platform, text in (("linux", "apt-get install virtualbox"), ("darwin", "brew"), ("win32", "winget")):
        with pytest.raises(HypervisorError, match="VirtualBox is not installed") as caught:
            places(tmp_path, platform).vboxapi()
        assert text in caught.value.hint


def test_a_virtualbox_without_the_binding_is_reported(tmp_path: Path) -> None:
    a_file(tmp_path / "usr/lib/virtualbox/VBoxSVC")
    with pytest.raises(HypervisorError, match="VirtualBox is installed, but not its Python binding"):
        places(tmp_path).vboxapi()


def test_a_machine_can_start_where_the_service_and_its_driver_are(tmp_path: Path) -> None:
    assert not places(tmp_path).can_start()
    a_file(tmp_path / "usr/lib/virtualbox/VBoxSVC")
    assert not places(tmp_path).can_start()
    a_file(tmp_path / "dev/vboxdrv")
    assert places(tmp_path).can_start()


def test_other_systems_check_only_the_service(tmp_path: Path) -> None:
    assert not places(tmp_path, "darwin").can_start()
    a_file(tmp_path / "Applications/VirtualBox.app/Contents/MacOS/VBoxSVC")
    assert places(tmp_path, "darwin").can_start()
    a_file(tmp_path / "VBox" / "VBoxSVC.exe")
    assert places(tmp_path, "win32", VBOX_MSI_INSTALL_PATH=str(tmp_path / "VBox")).can_start()
    assert not places(tmp_path, "sunos5").can_start()
