"""How ssh is called, and what its failures mean, without calling it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketformer.runtime.errors import InputError
from pocketformer.targets.ssh import (
    Address,
    SshOptions,
    check_options,
    explain_failure,
    scrub,
    ssh_arguments,
)

BOARD = Address(host="board", user="me", port=2222)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://board", Address(host="board")),
        ("ssh://me@board.local:2222", Address(host="board.local", user="me", port=2222)),
        ("ssh://me@[fe80::1]:22", Address(host="fe80::1", user="me", port=22)),
        ("ssh://me@10.0.0.7/", Address(host="10.0.0.7", user="me")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "board",
        "me@board",
        "http://board",
        "ssh://",
        "ssh://me@",
        "ssh://-oProxyCommand=evil",
        "ssh://-oProxyCommand=evil@board",
        "ssh://me@board/path",
        "ssh://me@board:notaport",
        "ssh://me@board:99999",
        "ssh://a b@board",
        "ssh://me@bo;ard",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Address.parse(text)
    assert caught.value.exit_code == 2
    assert "ssh://user@host" in str(caught.value.hint)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds a password") as caught:
        Address.parse("ssh://me:secret@board")
    assert "secret" not in str(caught.value)


def test_nothing_is_asked_and_no_new_host_is_trusted(tmp_path: Path) -> None:
    options = SshOptions(identity=tmp_path / "my key%h", known_hosts=tmp_path / "known")
    arguments = ssh_arguments(BOARD, options, "true; exit")
    settings = [arguments[index + 1] for index, word in enumerate(arguments) if word == "-o"]
    assert {
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "IdentitiesOnly=yes",
        f'IdentityFile="{tmp_path}/my key%%h"',
        f'UserKnownHostsFile="{tmp_path}/known"',
        "GlobalKnownHostsFile=/dev/null",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
    } <= set(settings)
    assert arguments[-7:] == ["-p", "2222", "-l", "me", "--", "board", "true; exit"]
    plain = " ".join(ssh_arguments(Address(host="board"), SshOptions(), "true"))
    assert "Identit" not in plain
    assert "KnownHostsFile" not in plain


def test_files_that_ssh_could_not_take(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no key file at"):
        check_options(SshOptions(identity=tmp_path / "none"))
    with pytest.raises(InputError, match="no known_hosts file at"):
        check_options(SshOptions(known_hosts=tmp_path / "none"))
    with pytest.raises(InputError, match="cannot take the path"):
        ssh_arguments(BOARD, SshOptions(identity=tmp_path / 'a"b'), "true")


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("me@board: Permission denied (publickey).", "does not accept the key", "--identity"),
        ("ssh: connect to host board port 2222: Connection refused", "refuses connections", "port"),
        ("ssh: connect to host board port 22: Connection timed out", "cannot be reached", "network"),
        ("ssh: connect to host board port 22: No route to host", "cannot be reached", "network"),
        ("Connection timed out during banner exchange", "cannot be reached", "network"),
        ("ssh: Could not resolve hostname board: Name or service not known", "no device is known", "IP"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "shows another host key",
            r"ssh-keygen -R '\[board\]:2222'",
        ),
        (
            "No ED25519 host key is known for [board]:2222 and you have requested strict checking.\n"
            "Host key verification failed.",
            "the host key of ssh://me@board:2222 is not known",
            "ssh-keyscan -p 2222 board",
        ),
        ("WARNING: UNPROTECTED PRIVATE KEY FILE!\nPermission denied (publickey)", "other users", "chmod"),
        ("Timeout, server board not responding.", "was lost", "run again"),
        ("Connection to board closed by remote host.", "was lost", "run again"),
        ("", "was lost", "run again"),
    ],
)
def test_what_failures_mean(said: str, message: str, hint: str) -> None:
    import re

    error = explain_failure(BOARD, 255, said)
    assert error is not None
    assert error.exit_code == 4
    assert message in error.message
    assert re.search(hint, str(error.hint))


def test_failures_of_the_remote_command_are_not_those_of_ssh() -> None:
    assert explain_failure(BOARD, 127, "me@board: Permission denied (publickey).") is None


def test_text_from_elsewhere_holds_no_homes_and_no_control_characters() -> None:
    text = "\x1b[31m/home/me/.ssh/id: bad\r\n/root/x /Users/me/y /rooted /homestead"
    assert scrub(text) == "[31m~/.ssh/id: bad  ~/x ~/y /rooted /homestead"
    assert scrub(f"{Path.home()}/.ssh/id") == "~/.ssh/id"
