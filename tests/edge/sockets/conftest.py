"""Both twins, on both loops."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import uvloop

from headwater.edge.sockets import _epoll_py, sockets

TWINS = [_epoll_py]
if sockets.COMPILED:
    TWINS.append(importlib.import_module("headwater.edge.sockets._epoll"))


@pytest.fixture(params=TWINS, ids=lambda twin: twin.__name__.rpartition(".")[2])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run_on(main: Callable[[], object]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())  # type: ignore[arg-type]

    return run_on
