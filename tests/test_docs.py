"""What the documents say is there: files they point to, and settings they name."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from headwater.cli import main
from headwater.core.config import fields, load
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.settings import EdgeSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", *(f"{room}/**/*.md" for room in ("core", "edge")))
    for page in ROOT.glob(pattern)
)
PAGES += [*sorted(ROOT.glob("cloud/**/*.md")), ROOT / "deploy/README.md", ROOT / "tests/README.md"]
_LINK = re.compile(r"\]\(([^)#\s]+)")
_BLOCK = re.compile(r"```toml\n(.*?)```", re.DOTALL)
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
MOSQUITTO = ROOT / "docs" / "mosquitto.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def _command_lines() -> list[str]:
    blocks = [block for page in PAGES for block in _SHELL.findall(page.read_text())]
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("headwater ") and "…" not in line.split("#")[0]]  # fmt: skip


@pytest.mark.parametrize("line", _command_lines())
def test_every_command_line_is_one_that_is_understood(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shlex.split(line, comments=True)[1:]
    module = importlib.import_module(f"headwater.commands.{given[0]}")
    monkeypatch.setattr(module, "run", lambda _: 7)
    assert main(given) == 7, "it came as far as to be run"


def test_every_example_for_those_who_come_from_mosquitto_loads(tmp_path: Path) -> None:
    blocks = _BLOCK.findall(MOSQUITTO.read_text())
    assert len(blocks) == 2
    for block in blocks:
        file = tmp_path / "headwater.toml"
        file.write_text(block)
        load(EdgeSettings, section="edge", file=file, environ={}, flags={}).value.check()


def test_every_setting_that_they_are_told_of_exists() -> None:
    edge = {field.key for field in fields(EdgeSettings)}
    listener = {field.key for field in fields(ListenerSettings)} | {"anonymous", "tls"}
    limits = {field.key for field in fields(MqttSettings)}
    rows = [
        line.split("|")[2] for line in MOSQUITTO.read_text().splitlines() if line.startswith("| `")
    ]
    assert len(rows) > 25
    for cell in rows:
        for part in cell.split(";"):
            known = limits if "*limits*" in part else listener
            for name in re.findall(r"`([a-z_.]+)(?: = [^`]*)?`", part):
                key = name.removeprefix("edge.")
                assert key in (edge if name.startswith("edge.") else known), name
