"""The document: one table for each version, a line for each statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from .marks import Mark
from .statements import NAMES, excused, statements

# More tests of one statement than these are counted, not named.
TESTS_NAMED_MAX = 3

_HEAD = """# MQTT conformance

Made by `make docs` from the marks on the tests; `tests/conformance` fails where this page is not true. Each labelled
normative statement of both OASIS specifications is covered by the tests named, or not covered for the reason given.
What a statement asks is given in our words; the specification's words count.

Nearly all of these tests hand bytes to the broker's core and look at the bytes that come back; they are in
`tests/edge/broker/statements`. Paths are below `tests/edge`. The labels are those that stand in the specifications'
text: 3.1.1 misprints two of them, 5.0 labels one statement twice.
"""


def render(marks: Iterable[Mark]) -> str:
    tests: dict[tuple[str, str], set[str]] = defaultdict(set)
    for mark in marks:
        tests[mark.version, mark.label].add(mark.function.removeprefix("tests/edge/"))
    reasons = excused()
    parts = [_HEAD]
    for version, name in NAMES.items():
        own = [each for each in statements() if each.version == version]
        covered = sum((version, each.label) in tests for each in own)
        parts.append(f"\n## MQTT {name}: {len(own)} statements, {covered} covered by tests\n")
        parts.append("| statement | asks | tests |\n|---|---|---|")
        for each in own:
            key = (version, each.label)
            shown = _named(tests[key]) if key in tests else f"*not tested: {reasons.get(key, '?')}*"
            parts.append(f"| MQTT-{each.label} | {each.summary.replace('|', '/')} | {shown} |")
    return "\n".join(parts) + "\n"


def _named(functions: set[str]) -> str:
    first, *more = sorted(functions)
    names = [f"`{each}`" for each in (first, *more)[:TESTS_NAMED_MAX]]
    rest = len(functions) - len(names)
    return "<br>".join(names) + (f"<br>and {rest} more" if rest else "")
