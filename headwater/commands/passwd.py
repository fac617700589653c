"""Create a user in an edge's password file, change a password, or take a user out: `headwater edge passwd FILE USER`.

The password is asked for, or is the first line of standard input; never an argument, which every process can read. The file
may be Mosquitto's: its lines stay, and the user's own becomes an Argon2id one. The file is replaced in one step; a new
one is readable by its owner alone, an old one keeps its owner and mode. A running edge reads it again on SIGHUP
(`systemctl reload headwater-edge`).
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from ..core.errors import Misconfigured, Refused
from ..edge.broker.access.passwords import check_user, make_hash, parse_passwords

SUMMARY = "create a user in a password file, change a password"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the password file; made if it is not there")
    parser.add_argument("user", help="the user to create or change")
    parser.add_argument("--delete", action="store_true", help="take the user out")


def run(options: argparse.Namespace) -> int:
    user = check_user(options.user)
    lines = _lines(options.file)
    known = [number for number, line in enumerate(lines) if line.partition(":")[0].strip() == user]
    if options.delete:
        if not known:
            raise Refused(f"{options.file} has no user {user!r}")
        lines = [line for number, line in enumerate(lines) if number not in known]
    else:
        line = f"{user}:{make_hash(_password(user), os.urandom(16))}"
        if known:
            lines[known[0]] = line
        else:
            lines.append(line)
    _replace(options.file, "".join(f"{line}\n" for line in lines))
    done = "taken out" if options.delete else "changed" if known else "created"
    print(f"user {user} {done}; a running edge reads {options.file} again on SIGHUP")
    return 0


def _lines(file: Path) -> list[str]:
    """The file as it stands, checked. Raises Misconfigured."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}: cannot be read: {error}") from None
    parse_passwords(text, source=str(file))
    return text.splitlines()


def _password(user: str) -> bytes:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass.getpass(f"password of {user}: ")
        if getpass.getpass("again: ") != password:
            raise Refused("the two passwords differ")
    if not password:
        raise Refused("an empty password is none")
    return password.encode()


def _replace(file: Path, text: str) -> None:
    """All or nothing, also if the power goes."""
    beside = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            if file.exists():
                there = file.stat()
                os.fchmod(out.fileno(), there.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(out.fileno(), there.st_uid, there.st_gid)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        raise Refused(f"{file}: cannot be written: {error.strerror}") from None
