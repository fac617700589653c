"""`headwater edge status`: asked of a running edge, and read by a person."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from headwater.cli import main
from headwater.commands.status import duration, render, size, summary

STATUS: dict[str, Any] = {
    "edge": "pi-7",
    "log": "00",
    "uptime_s": 93_784.0,
    "not_ready": [],
    "clock": "synchronised",
    "wall_ms": 0,
    "mqtt": "0.0.0.0:1883",
    "listeners": [
        {"name": "mqtt", "address": "127.0.0.1:1883", "connections": 1},
        {"name": "tls", "address": "0.0.0.0:8883", "connections": 2},
    ],
    "clients": {
        "connected": 3, "sessions": 5, "subscriptions": 1, "queued_messages": 12, "published": 9, "refused": 0,
    },
    "journal": {"used_bytes": 2**30, "limit_bytes": 2**32, "full": None, "stalled": None},
    "wear": None,
    "uplink": {
        "state": "over budget",
        "cluster": "river",
        "uplink": "cloud.example:9093",
        "last_error": "",
        "next_attempt_s": None,
        "backlog_records": 12_345,
        "backlog_bytes": 9_876_543,
        "seconds_to_empty": 7260.0,
        "streams": [
            {
                "stream": "alarms", "priority": 9, "backlog_records": 0, "backlog_bytes": 0,
                "seconds_to_empty": 0.0, "waits": "", "waits_s": 0.0, "last_error": "",
            },
            {
                "stream": "bulk", "priority": 1, "backlog_records": 12_345, "backlog_bytes": 9_876_543,
                "seconds_to_empty": None, "waits": "over budget", "waits_s": 3600.0, "last_error": "",
            },
        ],
        "wire": {"bytes_per_second": 7900.0},
        "shaping": {
            "link": "metered", "interface": "wwan0", "rate": 8000, "reserve": 0.2, "reserve_priority": 7,
            "new_day_in_s": 3600.0, "window": "01:00-05:00", "window_priority": 4, "window_open": False,
            "window_changes_in_s": 7200.0, "clock_trusted": True, "throttled_s": 0.0,
            "budgets": [{"link": "metered", "spent": 10, "limit": 5_000_000, "left": 0}],
        },
    },
}  # fmt: skip


@pytest.fixture
def url() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(STATUS).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_state_the_reason_and_the_time_are_on_one_screen() -> None:
    text = "\n".join(render(STATUS))
    assert "over budget to river (cloud.example:9093) over wwan0" in text
    assert "12,345 records, 9.9 MB, empty in 2 h 1 min, 7900 B/s" in text
    assert "metered: 0 B of 5.0 MB left for 1 h <- now" in text
    assert "01:00-05:00 for priorities below 4: closed for 2 h" in text
    assert "mqtt 127.0.0.1:1883 (1), tls 0.0.0.0:8883 (2)" in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 17
    bulk = next(line for line in text.splitlines() if line.startswith("bulk"))
    assert bulk.split("  ")[-1] == "over budget, 1 h"


WEAR: dict[str, Any] = {
    "device": "mmcblk0", "reason": "", "since_ms": 0, "written_bytes": 40_000_000, "bytes_per_day": 3.4e12,
    "budget_per_day": None, "life_used": 0.001, "ends_ms": None, "strained": False,
}  # fmt: skip


def _flash(**more: object) -> str:
    now_ms = more.pop("wall_ms", 1000)
    return dict(summary({**STATUS, "wall_ms": now_ms, "wear": {**WEAR, **more}}))["flash"]


def test_what_a_start_writes_is_not_called_a_days_pace() -> None:
    assert _flash() == "mmcblk0: 40.0 MB written in 1 s, 0.1% of its life used"
    assert "3400 GB a day" in _flash(wall_ms=3_600_000)


def test_a_wear_budget_and_the_day_on_which_the_card_is_used_up_are_shown() -> None:
    told = _flash(
        wall_ms=86_400_000, bytes_per_day=2e9, budget_per_day=3e9, ends_ms=1_900_000_000_000
    )
    assert told == (
        "mmcblk0: 2.0 GB a day, 3.0 GB a day allowed, 0.1% of its life used, used up on 2030-03-17 at this pace"
    )
    assert "used up" not in _flash(wall_ms=86_400_000, ends_ms=10**15), "in thirty thousand years"
    assert _flash(reason="counted by nobody") == "counted by nobody"


def test_it_is_asked_over_http_and_found_by_the_data_directory(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edge", "status", "--url", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    (tmp_path / "http.url").write_text(f"{url}\n")
    assert main(["edge", "status", "--data-dir", str(tmp_path)]) == 0
    assert "pi-7" in capsys.readouterr().out


def test_it_is_found_by_the_configuration(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(f'[edge]\nhttp = "{url.removeprefix("http://")}"\n')
    assert main(["edge", "status", "--config", str(file)]) == 0
    assert main(["edge", "--config", str(file), "status"]) == 0
    assert capsys.readouterr().out.count("pi-7") == 2
    # port 0: any free one, so the edge wrote down which
    file.write_text(f'[edge]\nhttp = "127.0.0.1:0"\ndata_dir = "{tmp_path}"\n')
    (tmp_path / "http.url").write_text(f"{url}\n")
    assert main(["edge", "status", "--config", str(file)]) == 0
    file.write_text('[edge]\nhttp = "none"\n')
    assert main(["edge", "status", "--config", str(file)]) == 1
    assert "edge.http is none" in capsys.readouterr().err


def test_an_edge_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edge", "status", "--url", "http://127.0.0.1:1"]) == 1
    assert main(["edge", "status", "--data-dir", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_who_may_not_read_where_it_answers_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    assert main(["edge", "status", "--data-dir", "/var/lib/headwater-edge"]) == 1
    told = capsys.readouterr().err
    assert "--url http://" in told
    assert "no edge" not in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (9999, "9999 B"), (10_000, "10.0 kB"), (5e9, "5.0 GB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
