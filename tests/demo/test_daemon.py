"""Daemons: nothing outlives its starter, and a failure says what the daemon said."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from headwater.demo.daemon import Daemon, DaemonFailed, free_port, parse_metrics, total

SLEEP = "import time; time.sleep(600)"
# says its child's process number and lives on
PARENT = f"""
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}]).pid, flush=True)
time.sleep(600)
"""
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        status = 200 if Handler.asked > 2 else 503
        self.send_response(status); self.end_headers(); self.wfile.write(b"recovering")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def parent(log: Path) -> Iterator[Daemon]:
    daemon = Daemon("parent", [sys.executable, "-c", PARENT], log=log)
    daemon.start()
    yield daemon
    daemon.close()


def child_of(daemon: Daemon) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if children := psutil.Process(daemon.pid).children():
            return children[0]
    raise AssertionError("the child never came")


def gone(process: psutil.Process) -> bool:
    # in a container nobody may reap it: a zombie is dead too
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_gone(process: psutil.Process) -> bool:
    deadline = time.monotonic() + 5
    while not gone(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone(process)


def test_closing_takes_the_children_too(parent: Daemon) -> None:
    child = child_of(parent)
    parent.close()
    assert wait_gone(child)
    assert not parent.running


def test_a_kill_strikes_one_process_and_closing_takes_its_orphans(parent: Daemon) -> None:
    child = child_of(parent)
    parent.kill()
    assert not parent.running
    assert not gone(child), "a power cut of one tier is not one of the others"
    parent.close()
    assert wait_gone(child)


def test_nothing_outlives_an_interpreter_that_forgot_to_close(tmp_path: Path) -> None:
    forgetful = f"""
import sys
from pathlib import Path
from headwater.demo.daemon import Daemon
daemon = Daemon("x", [sys.executable, "-c", {SLEEP!r}], log=Path({str(tmp_path / "inner")!r}))
daemon.start()
print(daemon.pid, flush=True)
"""
    daemon = Daemon("forgetful", [sys.executable, "-c", forgetful], log=tmp_path / "log")
    daemon.start()
    try:
        deadline = time.monotonic() + 20
        while daemon.running and time.monotonic() < deadline:
            time.sleep(0.02)
        pid = int((tmp_path / "log").read_text().split()[-1])
        assert not psutil.pid_exists(pid) or gone(psutil.Process(pid))
    finally:
        daemon.close()


def test_ready_is_what_the_daemon_says(log: Path) -> None:
    port = free_port()
    daemon = Daemon("server", [sys.executable, "-c", SERVER, str(port)], log=log, http_port=port)
    daemon.start()
    try:
        daemon.wait_ready(20)
        assert daemon.get("/readyz")[0] == 200
    finally:
        daemon.close()


def test_one_that_dies_before_it_is_ready_says_why(log: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('the disk is full')"]
    daemon = Daemon("edge", command, log=log, http_port=free_port())
    daemon.start()
    with pytest.raises(DaemonFailed, match=r"edge exited with 1(.|\n)*the disk is full"):
        daemon.wait_ready(20)
    daemon.close()


def test_ports_are_handed_out_once() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20


def test_metrics_are_summed_over_their_labels() -> None:
    text = '# HELP a b\na_total{p="0"} 3.0\na_total{p="1"} 4.0\na_totals 9.0\na_total 1.0\n'
    assert total(parse_metrics(text), "a_total") == 8.0
    assert total({}, "a_total") == 0
