"""The admin door: three paths, reasons in words, and no patience for anything else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, Counter

from headwater.core import admin
from headwater.core.address import optional_address, split_address
from headwater.core.admin import AdminServer
from headwater.core.errors import Refused


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def _answers(reasons: list[str], *requests: bytes) -> list[bytes]:
    registry = CollectorRegistry()
    Counter("drops", "water", registry=registry).inc(3)
    server = AdminServer("127.0.0.1", 0, registry=registry, readiness=lambda: reasons)
    await server.start()
    try:
        return [await _ask(server.port, request) for request in requests]
    finally:
        await server.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def test_ready_healthy_and_metrics_are_served() -> None:
    ready, health, metrics = asyncio.run(
        _answers([], _get("/readyz"), _get("/healthz"), _get("/metrics?x=1"))
    )
    assert ready.startswith(b"HTTP/1.1 200")
    assert ready.endswith(b"\r\n\r\nready\n")
    assert health.startswith(b"HTTP/1.1 200")
    assert b"drops_total 3.0" in metrics


def test_not_ready_says_why() -> None:
    (ready,) = asyncio.run(_answers(["disk full at /data"], _get("/readyz")))
    assert ready.startswith(b"HTTP/1.1 503")
    assert ready.endswith(b"disk full at /data\n")


def test_other_paths_methods_and_noise_are_refused() -> None:
    lost, posted, noise = asyncio.run(
        _answers([], _get("/"), b"POST /readyz HTTP/1.1\r\n\r\n", b"\x16\x03" + b"a" * 20_000)
    )
    assert lost.startswith(b"HTTP/1.1 404")
    assert posted.startswith(b"HTTP/1.1 405")
    assert noise == b""


def test_who_only_holds_connections_open_takes_few_and_loses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(admin, "REQUEST_SECONDS_MAX", 0.2)

    async def scenario() -> None:
        server = AdminServer("127.0.0.1", 0, registry=CollectorRegistry(), readiness=list)
        await server.start()
        holders = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        await _until(lambda: server.connections == 3)
        answer = b""
        with contextlib.suppress(ConnectionError):  # reset or closed: nothing is answered
            answer = await _ask(server.port, _get("/healthz"))
        assert answer == b""
        for reader, writer in holders:
            assert await reader.read() == b""
            writer.close()
        assert (await _ask(server.port, _get("/healthz"))).startswith(b"HTTP/1.1 200")
        await server.close()

    asyncio.run(scenario())


def test_an_answer_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "REQUEST_SECONDS_MAX", 0.2)

    async def scenario() -> None:
        server = AdminServer(
            "127.0.0.1",
            0,
            registry=CollectorRegistry(),
            readiness=list,
            status=lambda: bytes(16 << 20),
        )
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(_get("/status"))
        await _until(lambda: server.connections == 1)
        await _until(lambda: server.connections == 0)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(65_536):
                taken += len(data)
        assert taken < 16 << 20, "it was not kept for whoever comes back an hour later"
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_a_port_in_use_is_said_in_one_line() -> None:
    async def twice() -> None:
        first = AdminServer("127.0.0.1", 0, registry=CollectorRegistry(), readiness=list)
        await first.start()
        second = AdminServer("127.0.0.1", first.port, registry=CollectorRegistry(), readiness=list)
        try:
            with pytest.raises(Refused, match=f"127.0.0.1:{first.port}"):
                await second.start()
        finally:
            await first.close()

    asyncio.run(twice())


@pytest.mark.parametrize("text", ["", "localhost", "host:", "host:many", "host:70000"])
def test_an_address_must_be_host_and_port(text: str) -> None:
    with pytest.raises(Refused, match="http"):
        split_address(text, key="http")


def test_addresses_are_split() -> None:
    assert split_address("127.0.0.1:0", key="http") == ("127.0.0.1", 0)
    assert split_address("[::1]:80", key="http") == ("::1", 80)
    assert optional_address("none", key="http") is None
    assert optional_address("", key="http") is None
