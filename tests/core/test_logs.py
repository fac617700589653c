"""Log lines: what a client called itself cannot become a line of its own, nor a command to the terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest
import structlog

from headwater.core import logs

# a new line with a forged event, a colour, the same in one C1 character, a terminal's title, right-to-left
EVIL = "a\n{} \x1b[31mred \x9b31m \x1b]0;title\x07 \u202e"


class _Screen(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture(autouse=True)
def _as_before() -> object:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logs.set_level("info")


def _line(monkeypatch: pytest.MonkeyPatch, name: str, *, is_terminal: bool) -> str:
    screen = _Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    logs.configure()
    structlog.get_logger().info("client connected", client=name)
    return screen.getvalue()


def test_a_terminal_gets_no_control_character_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = _line(monkeypatch, "name", is_terminal=True)
    theirs = _line(monkeypatch, EVIL, is_terminal=True)
    assert theirs.count("\x1b") == ours.count("\x1b"), "the colours are the renderer's own"
    assert theirs.count("\n") == 1
    assert not {"\x9b", "\x07", "\u202e", "\x1b]"} & set(theirs)
    assert "\\x1b[31mred" in theirs, "and it can still be read what it was"


def test_a_line_for_machines_is_ascii_and_says_the_name_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = _line(monkeypatch, EVIL, is_terminal=False)
    assert line.isascii()
    assert line[:-1].isprintable()
    assert json.loads(line)["client"] == EVIL
