"""What is shown: a line rewritten on a terminal, whole lines elsewhere, and events that stay."""

from __future__ import annotations

import io

from headwater.demo.progress import Progress, Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_line_is_rewritten_and_events_begin_their_own() -> None:
    out = Terminal()
    screen = Screen(out)
    screen.show(Progress(10, 9, 8, 7))
    screen.show(Progress(20, 19, 18, 17))
    screen.say("killed the edge")
    written = out.getvalue()
    assert written.count("\r") == 2
    assert written.split("\n")[1].endswith("s  killed the edge")


def test_elsewhere_nothing_is_rewritten() -> None:
    out = io.StringIO()
    screen = Screen(out)
    for _ in range(100):
        screen.show(Progress(1, 1, 1, 1))
    screen.say("done")
    assert "\r" not in out.getvalue()
    assert out.getvalue().count("\n") == 1, "a line every other second, not each time"


def test_lag_is_what_was_acknowledged_and_is_not_in_the_lake() -> None:
    assert Progress(10, 9, 8, 7).lag == 2
    assert Progress(10, 9, 10, 10).lag == 0
