"""Show what a running edge does: link, backlog and time to empty by stream, budgets, log, clients.

Asks it over HTTP: at --url, or where the edge of --data-dir answers (it writes that down), or where the settings say
(--config, the environment, the defaults).
Exit status 0 where it answers and takes publishes, 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.address import optional_address, url_of
from ..core.errors import Refused, Unavailable
from .settings import load

SUMMARY = "show what a running edge does"
_TIMEOUT_S = 5.0
_MARKS = {"connected": "●", "connecting": "◌", "waiting": "○", "stopped": "○"}
_COLOURS = {"connected": "green", "over budget": "yellow", "outside window": "yellow"}

Document = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="where the edge serves HTTP")
    # of their own, so that one given to `headwater edge` before it is not lost
    parser.add_argument(
        "--config", dest="status_config", type=Path, metavar="FILE", help="the edge's settings"
    )
    parser.add_argument("--data-dir", dest="status_dir", metavar="DIR", help="the edge's data")
    parser.add_argument("--json", action="store_true", help="as the edge answers it")


def run(options: argparse.Namespace) -> int:
    found = fetch(_url(options))
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty() and _print_rich(found):
        pass
    else:
        for line in render(found):
            print(line)
    return 1 if found["not_ready"] else 0


def fetch(url: str) -> Document:
    """Raises Unavailable, Refused."""
    if not url.startswith(("http://", "https://")):
        raise Refused(f"{url!r} is not an address", hint="--url http://HOST:PORT")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/status", timeout=_TIMEOUT_S) as answer:
            found: Document = json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"{url} has no /status: {error.code}; is it an edge?") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(
            f"no edge answers at {url}: {reason}", hint="--config, --data-dir or --url"
        ) from None
    return found


def _url(options: argparse.Namespace) -> str:
    """Raises Misconfigured, Unavailable."""
    if options.url:
        return str(options.url)
    if options.status_dir or options.data_dir:
        return _written_url(options.status_dir or options.data_dir)
    from ..edge.settings import EdgeSettings

    options.config = options.status_config or options.config
    settings = load(EdgeSettings, "edge", options, ("http",)).value
    address = optional_address(settings.http, key="edge.http")
    if address is None:
        raise Unavailable("edge.http is none: this edge answers nobody")
    return url_of(address) if address[1] else _written_url(settings.data_dir)


def _written_url(data_dir: str) -> str:
    try:
        return (Path(data_dir) / "http.url").read_text(encoding="utf-8").strip()
    except PermissionError:
        raise Unavailable(
            f"{data_dir}/http.url may not be read by this user",
            hint="sudo, or --url http://HOST:PORT; by default an edge answers at http://127.0.0.1:9464",
        ) from None
    except OSError as error:
        raise Unavailable(
            f"{data_dir}/http.url: {error.strerror}: no edge with an HTTP address has run there"
        ) from None


# -- words -------------------------------------------------------------------------------------------------------------


def render(found: Document) -> Iterator[str]:
    """For a terminal without colours, a pipe, a log."""
    for name, text in summary(found):
        yield f"{name:<9} {text}"
    rows = streams(found)
    if rows:
        yield ""
        widths = [max(len(row[n]) for row in [HEADS, *rows]) for n in range(len(HEADS))]
        for row in [HEADS, *rows]:
            cells = [
                text.ljust(width) if n in {0, len(HEADS) - 1} else text.rjust(width)
                for n, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield "  ".join(cells).rstrip()


def summary(found: Document) -> Iterator[tuple[str, str]]:
    """(what, how it is), the most urgent first."""
    yield "edge", f"{found['edge']}, up {duration(found['uptime_s'])}, clock {found['clock']}"
    if found["not_ready"]:
        yield "NOT READY", "; ".join(found["not_ready"])
    link = found["uplink"]
    if link is None:
        yield "uplink", "none: everything is kept here"
    else:
        yield from _link(link)
    journal, clients = found["journal"], found["clients"]
    share = journal["used_bytes"] / journal["limit_bytes"] if journal["limit_bytes"] else 0
    if len(found["listeners"]) > 1:
        yield "mqtt", ", ".join(_listener(each) for each in found["listeners"])
    yield "log", f"{size(journal['used_bytes'])} of {size(journal['limit_bytes'])} ({share:.0%})"
    if (wear := found["wear"]) is not None:
        yield "flash", _wear(wear, now_ms=found["wall_ms"])
    yield (
        "clients",
        (
            f"{clients['connected']} connected, {clients['sessions']} sessions, "
            f"{clients['queued_messages']} messages wait for them"
        ),
    )


def _listener(listener: Document) -> str:
    return f"{listener['name']} {listener['address']} ({listener['connections']})"


def _link(link: Document) -> Iterator[tuple[str, str]]:
    mark, wire, shaping = _MARKS.get(link["state"], "▲"), link["wire"], link["shaping"]
    where = f" to {link['cluster']} ({link['uplink']})" if link["cluster"] else f" {link['uplink']}"
    over = f" over {shaping['interface']}" if shaping["interface"] else ""
    again = (
        "" if link["next_attempt_s"] is None else f", again in {duration(link['next_attempt_s'])}"
    )
    yield "uplink", f"{mark} {link['state']}{where}{over}{again}"
    if link["last_error"]:
        yield "trouble", link["last_error"]
    pace = wire["bytes_per_second"]
    speed = "" if pace is None else f", {size(pace)}/s"
    yield (
        "backlog",
        (
            f"{link['backlog_records']:,} records, {size(link['backlog_bytes'])}, "
            f"empty in {_when(link['seconds_to_empty'])}{speed}"
        ),
    )
    yield from _shaping(shaping)


def _shaping(shaping: Document) -> Iterator[tuple[str, str]]:
    for budget in shaping["budgets"]:
        if budget["limit"] is not None:
            mine = " <- now" if budget["link"] == shaping["link"] else ""
            yield (
                "budget",
                (
                    f"{budget['link']}: {size(budget['left'])} of {size(budget['limit'])} left for "
                    f"{duration(shaping['new_day_in_s'])}{mine}"
                ),
            )
    if shaping["rate"] is not None:
        yield "rate", f"at most {size(shaping['rate'])}/s"
    if shaping["window"]:
        state = "open" if shaping["window_open"] else "closed"
        change = shaping["window_changes_in_s"]
        until = "" if change is None else f" for {duration(change)}"
        why = "" if shaping["clock_trusted"] else " (nobody knows the time)"
        yield (
            "window",
            (
                f"{shaping['window']} for priorities below {shaping['window_priority']}: "
                f"{state}{until}{why}"
            ),
        )
    if shaping["throttled_s"]:
        yield "throttled", f"the cluster asked for silence, {duration(shaping['throttled_s'])} more"


def _wear(wear: Document, *, now_ms: int) -> str:
    if wear["reason"]:
        return str(wear["reason"])
    seconds = (now_ms - wear["since_ms"]) / 1000
    if seconds < A_PACE_AFTER_S:
        pace = f"{size(wear['written_bytes'])} written in {duration(max(seconds, 1))}"
    else:
        pace = f"{size(wear['bytes_per_day'])} a day"
    budget = (
        "" if wear["budget_per_day"] is None else f", {size(wear['budget_per_day'])} a day allowed"
    )
    ends = ""
    if wear["ends_ms"] is not None:
        left = (wear["ends_ms"] - now_ms) / 86_400_000
        if left < 100 * 365:
            day = dt.datetime.fromtimestamp(wear["ends_ms"] / 1000, dt.UTC).date()
            ends = f", used up on {day} at this pace"
    used = "" if wear["life_used"] is None else f", {wear['life_used']:.1%} of its life used"
    strained = ", BUDGET OVERRUN" if wear["strained"] else ""
    return f"{wear['device']}: {pace}{budget}{used}{ends}{strained}"


# The whole device's average: a start writes for seconds what a day does not.
A_PACE_AFTER_S = 3600

HEADS = ("stream", "priority", "backlog", "bytes", "empty in", "waits for")


def streams(found: Document) -> list[tuple[str, ...]]:
    link = found["uplink"]
    if link is None:
        return []
    return [
        (
            stream["stream"],
            str(stream["priority"]),
            f"{stream['backlog_records']:,}",
            size(stream["backlog_bytes"]),
            _when(stream["seconds_to_empty"]),
            _waits(stream),
        )
        for stream in link["streams"]
    ]


def _waits(stream: Document) -> str:
    if not stream["waits"]:
        return str(stream["last_error"])
    return f"{stream['waits']}, {duration(stream['waits_s'])}"


def _when(seconds: float | None) -> str:
    return "?" if seconds is None else "now" if seconds < 1 else duration(seconds)


def size(count: float) -> str:
    """Decimal, as a carrier bills them."""
    if count < 10_000:
        return f"{count:.0f} B"
    power = 1 if count < 1e6 else 2 if count < 1e9 else 3
    count, unit = count / 1000**power, ("kB", "MB", "GB")[power - 1]
    return f"{count:.1f} {unit}" if count < 100 else f"{count:.0f} {unit}"


def duration(seconds: float) -> str:
    """Two units at the most: 3 d 4 h, 5 min 10 s."""
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def _print_rich(found: Document) -> bool:
    """In colours, where rich is installed; False where it is not."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console(highlight=False)
    head = Table.grid(padding=(0, 2))
    state = (found["uplink"] or {}).get("state", "")
    for name, text in summary(found):
        colour = _COLOURS.get(state, "red") if name == "uplink" and state else ""
        if name in {"NOT READY", "trouble"}:
            colour = "red"
        head.add_row(Text(name, style="bold"), Text(text, style=colour))
    console.print(head)
    rows = streams(found)
    if rows:
        table = Table(*HEADS, box=None, header_style="bold", padding=(0, 2))
        for column in range(1, len(HEADS) - 1):
            table.columns[column].justify = "right"
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    return True
