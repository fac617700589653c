"""python -m tests.conformance: write docs/mqtt-conformance.md."""

from __future__ import annotations

from .document import render
from .marks import ROOT, collect

DOCUMENT = ROOT / "docs" / "mqtt-conformance.md"

if __name__ == "__main__":
    DOCUMENT.write_text(render(collect()), encoding="utf-8")
