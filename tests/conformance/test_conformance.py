"""The conformance document is true: complete, up to date, and without a label that does not exist."""

from __future__ import annotations

import pytest

from .document import render
from .marks import ROOT, Mark, collect
from .statements import NAMES, excused, statements


@pytest.fixture(scope="module")
def marks() -> list[Mark]:
    return collect()


def test_no_mark_names_a_statement_that_does_not_exist(marks: list[Mark]) -> None:
    known = {(each.version, each.label) for each in statements()}
    unknown = {(mark.version, mark.label) for mark in marks} - known
    assert not unknown
    assert set(excused()) <= known


def test_every_statement_is_covered_or_excused_and_none_is_both(marks: list[Mark]) -> None:
    covered = {(mark.version, mark.label) for mark in marks}
    reasons = set(excused())
    missing = [
        f"{NAMES[each.version]} {each.label}: {each.summary}"
        for each in statements()
        if (each.version, each.label) not in covered | reasons
    ]
    assert not missing, "\n".join(missing)
    assert not covered & reasons, "tested and excused"


def test_the_document_is_what_the_marks_say(marks: list[Mark]) -> None:
    written = (ROOT / "docs" / "mqtt-conformance.md").read_text(encoding="utf-8")
    assert written == render(marks), "run: make docs"
