"""What shellinit prints, evaluated by real shells."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2d import shellenv

TLS = {"DOCKER_HOST": "tcp://127.0.59.103:2376", "DOCKER_CERT_PATH": "/home/me/.b2d/certs", "DOCKER_TLS_VERIFY": "1"}
SHOW = 'printf "%s\\0" "$DOCKER_HOST" "$DOCKER_CERT_PATH" "$DOCKER_TLS_VERIFY"'
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "DOCKER_CERT_PATH": "old", "DOCKER_TLS_VERIFY": "old"}


def shown(shell: str, script: str) -> list[str]:
    done = subprocess.run([shell, "-c", f"{script}\n{SHOW}"], capture_output=True, check=True, env=ENVIRONMENT)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_eval_sets_what_docker_needs(shell: str) -> None:
    assert shown(shell, f"eval '{shellenv.render(TLS, shell)}'") == list(TLS.values())


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_bare_form_of_2014_does_too(shell: str) -> None:
    assert shown(shell, f"$(printf %s '{shellenv.render(TLS, shell)}')") == list(TLS.values())


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_what_is_not_needed_is_emptied(shell: str) -> None:
    values = {"DOCKER_HOST": "tcp://127.0.59.103:2375"}
    assert shown(shell, shellenv.render(values, shell)) == ["tcp://127.0.59.103:2375", "", ""]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_no_path_is_too_odd_for_eval(path: str) -> None:
    assert shown("bash", shellenv.render(TLS | {"DOCKER_CERT_PATH": path}, "bash"))[1] == path


def test_posix_shells_get_one_line() -> None:
    assert shellenv.render(TLS, "zsh").count("\n") == 1


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("fish", "set -gx DOCKER_TLS_VERIFY 1;"),
        ("tcsh", "setenv DOCKER_TLS_VERIFY 1;"),
        ("powershell", "$Env:DOCKER_TLS_VERIFY = '1'"),
        ("cmd", "SET DOCKER_TLS_VERIFY=1"),
    ],
)
def test_other_shells_get_their_own_words(shell: str, line: str) -> None:
    assert line in shellenv.render(TLS, shell).splitlines()


@pytest.mark.parametrize(  # each was evaluated by that shell once, PowerShell's apart
    ("shell", "line"),
    [
        ("sh", """export DOCKER_CERT_PATH='/it'"'"'s $HOME\\ !x `y` grüße'"""),
        ("fish", r"set -gx DOCKER_CERT_PATH '/it\'s $HOME\\ !x `y` grüße';"),
        ("tcsh", r"setenv DOCKER_CERT_PATH '/it'\''s $HOME\ \!x `y` grüße';"),
        ("powershell", r"$Env:DOCKER_CERT_PATH = '/it''s $HOME\ !x `y` grüße'"),
    ],
)
def test_an_odd_path_is_quoted_as_each_shell_undoes_it(shell: str, line: str) -> None:
    said = shellenv.render({"DOCKER_CERT_PATH": r"/it's $HOME\ !x `y` grüße"}, shell)
    assert said.splitlines()[0].startswith(line)


@pytest.mark.parametrize(
    ("login", "windows", "shell"),
    [
        ("/usr/bin/fish", False, "fish"),
        ("/bin/bash", False, "bash"),
        ("/bin/odd", False, "sh"),
        ("", True, "powershell"),
    ],
)
def test_the_login_shell_is_written_for(login: str, windows: bool, shell: str) -> None:
    assert shellenv.detect({"SHELL": login}, windows) == shell
