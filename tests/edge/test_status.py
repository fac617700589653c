"""A real edge's /status, read by the command that people use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater.commands.status import fetch, render
from headwater.core.config import load
from headwater.edge.daemon import open_edge
from headwater.edge.settings import EdgeSettings


@pytest.mark.parametrize("uplink", ["none", "kafka://127.0.0.1:1"])
def test_a_running_edge_is_shown(tmp_path: Path, uplink: str) -> None:
    flags = {"data_dir": str(tmp_path), "mqtt": "127.0.0.1:0", "http": "127.0.0.1:0"}
    flags |= {"uplink": uplink, "name": "pi-7", "uplink_options.shaping.budget_metered": "5MB"}
    settings = load(EdgeSettings, section="edge", file=None, environ={}, flags=flags).value

    async def body() -> None:
        async with open_edge(settings):
            url = (tmp_path / "http.url").read_text().strip()
            text = "\n".join(render(await asyncio.to_thread(fetch, url)))
            found = await asyncio.to_thread(fetch, url)
        assert "pi-7" in text
        assert [each["name"] for each in found["listeners"]] == ["mqtt"]
        assert ("metered: 5.0 MB of 5.0 MB left" in text) == (uplink != "none")
        assert ("none: everything is kept here" in text) == (uplink == "none")

    asyncio.run(body())
