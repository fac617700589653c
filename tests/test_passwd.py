"""`headwater edge passwd`: creates, changes, takes out, keeps what others wrote, shows nothing to other processes."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from headwater.cli import main
from headwater.edge.broker.access.passwords import Argon2, parse_hash, parse_passwords

from .edge.broker.access.test_passwords import MOSQUITTO


def passwd(
    monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: str, password: str = "secret"
) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["edge", "passwd", str(file), *arguments])


def test_a_user_is_created_and_changed_and_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwd"
    assert passwd(monkeypatch, file, "a", password="one") == 0
    assert passwd(monkeypatch, file, "b") == 0
    assert passwd(monkeypatch, file, "a", password="two") == 0
    users = parse_passwords(file.read_text(), source="passwd")
    assert list(users) == ["a", "b"]
    assert parse_hash(users["a"]).matches(b"two")
    assert not parse_hash(users["a"]).matches(b"one")
    assert file.stat().st_mode & 0o777 == 0o600
    assert passwd(monkeypatch, file, "a", "--delete") == 0
    assert passwd(monkeypatch, file, "a", "--delete") == 1
    assert list(parse_passwords(file.read_text(), source="passwd")) == ["b"]


def test_mosquittos_file_keeps_its_lines_and_a_changed_user_becomes_argon2id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwd"
    file.write_text(f"# ours since 2019\n{MOSQUITTO}")
    file.chmod(0o640)
    assert passwd(monkeypatch, file, "new") == 0
    assert file.read_text().startswith(f"# ours since 2019\n{MOSQUITTO}new:$argon2id$")
    assert file.stat().st_mode & 0o777 == 0o640
    assert passwd(monkeypatch, file, "open") == 0
    users = parse_passwords(file.read_text(), source="passwd")
    assert isinstance(parse_hash(users["open"]), Argon2)


@pytest.mark.parametrize("user", ["a:b", "", "a\nb"])
def test_a_name_that_no_line_can_hold_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    assert passwd(monkeypatch, tmp_path / "passwd", user) == 78
    assert not (tmp_path / "passwd").exists()


def test_an_empty_password_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passwd(monkeypatch, tmp_path / "passwd", "a", password="") == 1
    assert not (tmp_path / "passwd").exists()


def test_a_file_that_is_no_password_file_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notes"
    file.write_text("dear diary\n")
    assert passwd(monkeypatch, file, "a") == 78
    assert file.read_text() == "dear diary\n"
