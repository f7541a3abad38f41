"""The fast path reads the settings as the full loader does, wherever it reads them at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.__main__ import DEFAULT_NAME, _profile_path, no_settings_file
from b2d.config import boot2docker_profile, loader
from b2d.errors import ConfigError
from b2d.paths import Home

WORDS = st.sampled_from(
    ["vm", "VM", "v_m", '"vm"', "'Vm'", '"\\u0056m"', "memory", "Vbm", "[vm", "#vm", "vm.a", "\ufeffvm"]
)
VALUES = st.sampled_from(['"dev"', '"boot2docker-vm"', '"boot2docker-vm" # "', "'dev'", "1000", '"""', "]", "[", ""])
LINES = st.builds("{}{}{}{}".format, st.sampled_from(["", " \t"]), WORDS, st.sampled_from([" = ", "=", ""]), VALUES)


@given(st.lists(LINES), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_fast_path_agrees_with_the_loader_about_files_without_a_name(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, old: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / ("profile" if old else "config.toml")).write_bytes(end.join(lines).encode())
    environ = {"BOOT2DOCKER_DIR": str(folder)}
    try:
        name = loader.load(Home(folder), environ, {}).settings.vm
    except ConfigError:
        return
    if no_settings_file(str(folder), environ):
        assert name == DEFAULT_NAME
    elif not any("vm" in line.lower().replace("_", "") or "\\" in line for line in lines):
        pytest.fail("it is in doubt where there is none")


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("BOOT2DOCKER_PROFILE", "BOOT2DOCKER_DIR", "HOME", "USERPROFILE"),
            st.sampled_from(["", "/a", "/a/", "b//c", "~/d"]),
        ),
    )
)
def test_the_fast_path_looks_for_the_profile_in_the_same_place(environ: dict[str, str]) -> None:
    quick_path = _profile_path(environ)
    assert (Path(quick_path) if quick_path else None) == boot2docker_profile.profile_path(environ)
