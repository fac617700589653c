"""The count at the end: what the publishers were promised, held against the lake by SQL and against `headwater verify`.

Rule: of each device every acknowledged sequence is in the lake, none twice (a repetition with DUP is stored once), none that
was not sent; sequences in doubt may be there. Of a stream that drops its oldest as many may be missing as the edge
declared lost. Counted by aggregation in the lake, so that hours of messages fit into memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from headwater.demo.river import Answerless, River

from .counted import Account

DROPPING = "bulk"
_SEQUENCES = """
with seen as (
    select topic, cast(nullif(regexp_extract(payload, '"sequence": ([0-9]+)', 1), '') as bigint) as sequence
    from readings where split_part(topic, '/', 3) = 'reading')
select topic, count(*) as rows, count(distinct sequence) as different, max(sequence) as highest
from seen group by topic"""
_DOUBTS = """
with seen as (
    select topic, cast(nullif(regexp_extract(payload, '"sequence": ([0-9]+)', 1), '') as bigint) as sequence
    from readings where topic = '{topic}')
select count(distinct sequence) as found from seen where sequence in ({doubts})"""


class Found(NamedTuple):
    """Of one topic in the lake."""

    rows: int
    different: int
    highest: int


class Balance(NamedTuple):
    """`wrong` is empty where the count comes out."""

    acknowledged: int
    doubtful: int
    rows: int
    declared_lost: int
    verify_said: str
    wrong: list[str]


def topic_of(account: Account) -> str:
    root = {"telemetry": "site"}.get(account.stream, account.stream)
    return f"{root}/{account.device}/reading"


def balance(river: River, accounts: Sequence[Account]) -> Balance:
    """Ask the lake. Raises Answerless where it does not answer."""
    found = {
        str(row["topic"]): Found(
            int(str(row["rows"])), int(str(row["different"])), int(str(row["highest"] or 0))
        )
        for row in river.query(_SEQUENCES)
    }
    complete, said = river.verify()
    said = said.replace(river.lake, "LAKE")  # a page is no place for this machine's paths
    wrong = [] if complete else ["headwater verify finds the lake incomplete"]
    lost = _declared_lost(river)
    missing_of_dropping = 0
    for account in accounts:
        topic = topic_of(account)
        there = found.get(topic, Found(0, 0, 0))
        in_doubt = 0
        if account.binary:
            if not account.acknowledged <= there.rows <= account.sent:
                wrong.append(
                    f"{topic}: {there.rows} rows for {account.acknowledged} acknowledged of {account.sent} sent"
                )
            continue
        if account.doubts:
            listed = ",".join(map(str, account.doubts))
            (row,) = river.query(_DOUBTS.format(topic=topic, doubts=listed))
            in_doubt = int(str(row["found"]))
        missing = account.acknowledged - (there.different - in_doubt)
        if account.stream == DROPPING:
            missing_of_dropping += missing
        elif missing:
            wrong.append(f"{topic}: {missing} acknowledged and not in the lake")
        if there.rows != there.different:
            wrong.append(f"{topic}: {there.rows - there.different} rows are there twice")
        if there.highest >= max(1, account.sent):
            wrong.append(f"{topic}: {there.highest} was never sent")
    if missing_of_dropping > lost:
        wrong.append(f"{DROPPING}: {missing_of_dropping} missing, {lost} declared lost")
    return Balance(
        sum(account.acknowledged for account in accounts),
        sum(len(account.doubts) for account in accounts),
        sum(each.rows for each in found.values()),
        lost,
        said,
        wrong,
    )


def _declared_lost(river: River) -> int:
    """Of the stream that may drop: the only one that may lose anything."""
    try:
        rows = river.query(f"select * from gaps where stream = '{DROPPING}'")
    except Answerless:
        return 0
    return sum(int(str(row["last"])) - int(str(row["first"])) + 1 for row in rows)


def others_lost(said: str) -> list[str]:
    """Streams other than the dropping one of which `headwater verify --format json` counts losses."""
    places = json.loads(said)["places"]
    return sorted({p["stream"] for p in places if p["declared_lost"] and p["stream"] != DROPPING})
