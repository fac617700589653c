"""One Headwater process (edge, cloud, sink) or another program, started, watched and killed.

Rule: nothing that was started outlives us. Each daemon leads a process group of its own; `close()` and, whatever
happens, the interpreter's exit kill the group. `kill()` is SIGKILL to the one process, as a power cut of that tier:
what it started is on its own, as it would be.

Ready is what the daemon itself says on /readyz; a daemon that exits before is an error with the end of its log.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from ..core.errors import HeadwaterError

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
STOP_SECONDS = 20.0
LOG_TAIL_BYTES = 3000

_started: set[subprocess.Popen[bytes]] = set()
_reserved: set[int] = set()


class DaemonFailed(HeadwaterError):
    """A daemon did not start, or did not stop in time. The message ends with the end of its log."""


def free_port() -> int:
    """A TCP port of the loopback that is free now and not handed out before by us.

    Restarted daemons need the port they had, so it cannot be left to the daemon (port 0). Taken below the ephemeral range,
    where no outgoing connection of a neighbour takes it while the daemon is down.
    """
    # neighbours are often processes of the next number: each begins a thousand ports further
    base = 10_000 + (os.getpid() * 1009) % 20_000
    for port in range(base, base + 2000):
        if port in _reserved:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            _reserved.add(port)
            return port
    raise DaemonFailed(f"no free port on {HOST} from {base} to {base + 2000}")


def headwater_command(*arguments: str) -> list[str]:
    """This very Headwater, by this very interpreter."""
    return [sys.executable, "-m", "headwater", *arguments]


class Daemon:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        http_port: int | None = None,
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
    ) -> None:
        """`core` pins the process to one CPU. Without `http_port` readiness is the caller's to judge."""
        self.name = name
        self.starts = 0
        self._command = list(command)
        self._log = log
        self._http_port = http_port
        self._environment = dict(environment or {})
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self._orphans: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        assert self._process is not None, "started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, "one process at a time"
        command = self._command
        if self._core is not None:
            command = ["taskset", "--cpu-list", str(self._core), *command]
        with self._log.open("ab") as log:
            log.write(f"--- start {self.starts + 1}: {' '.join(self._command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
                start_new_session=True,
            )
        self.starts += 1
        _started.add(self._process)

    def wait_ready(self, timeout_seconds: float = 60.0) -> float:
        """Returns the seconds it took. Raises DaemonFailed when the daemon exits first, or never says yes."""
        began = time.monotonic()
        reasons = "no answer yet"
        while time.monotonic() - began < timeout_seconds:
            if not self.running:
                raise DaemonFailed(f"{self.name} exited with {self._status()}\n{self.log_tail()}")
            try:
                status, reasons = self.get("/readyz")
            except OSError:
                status = 0
            if status == 200:
                return time.monotonic() - began
            time.sleep(POLL_SECONDS)
        raise DaemonFailed(
            f"{self.name} not ready after {timeout_seconds:g} s: {reasons.strip()}\n{self.log_tail()}"
        )

    def get(self, path: str, timeout_seconds: float = 5.0) -> tuple[int, str]:
        """GET from the daemon's admin port. Raises OSError where nobody answers."""
        assert self._http_port is not None, "an admin port was given"
        connection = http.client.HTTPConnection(HOST, self._http_port, timeout=timeout_seconds)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(f"{self.name} answered {error!r}") from error
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """The Prometheus samples: `name{labels}` → value. Empty where the daemon is down."""
        try:
            _, text = self.get("/metrics")
        except OSError:
            return {}
        return parse_metrics(text)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel has taken it away. Nothing happens where it is down already."""
        if self._process is not None and self.running:
            with contextlib.suppress(psutil.Error):
                self._orphans += psutil.Process(self.pid).children(recursive=True)
            self._process.kill()
            self._process.wait()
            _started.discard(self._process)

    def stop(self) -> int:
        """SIGTERM; returns the exit status. Raises DaemonFailed where it takes too long."""
        assert self._process is not None, "started"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DaemonFailed(
                f"{self.name} still runs {STOP_SECONDS:g} s after SIGTERM\n{self.log_tail()}"
            ) from None
        finally:
            self.close()

    def close(self) -> None:
        """Take away the process and whatever it started, in this life or an earlier one."""
        for orphan in self._orphans:
            with contextlib.suppress(psutil.Error):
                orphan.kill()  # psutil knows a process by its start time too: never a stranger
        self._orphans.clear()
        if self._process in _started:
            assert self._process is not None, "what was started is a process"
            _kill_group(self._process)
            self._process.wait()
            _started.discard(self._process)

    def log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return ""

    def _status(self) -> int | None:
        return None if self._process is None else self._process.returncode


def parse_metrics(text: str) -> dict[str, float]:
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def total(samples: Mapping[str, float], name: str, **labels: str) -> float:
    """The sum over all of one metric that carry `labels`; 0 where the daemon was down or has none yet."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for key, value in samples.items()
        if (key == name or key.startswith(name + "{"))
        and set(wanted) <= set(key[len(name) + 1 : -1].split(","))
    )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # the group outlives its leader while a child lives; its number cannot be another's until then
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    for process in _started:
        _kill_group(process)
