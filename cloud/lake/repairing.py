"""Repaired time as SQL: core/timeline.py's rule, over the `_time` table, computed when asked. Nothing stored is changed.

clocks              the anchors of all edges: what each clock said, and how far it was to be trusted
<stream>_repaired   the stream's view and five columns more; `readings_repaired` likewise

    arrival_repaired   when the edge took the record, as well as can be known now
    ts_repaired        the same where `ts` is the arrival; `ts` as it is where it is the payload's own time
    ts_lo, ts_hi       the true time of an arrival lies between them; null: no bound on that side
    ts_quality         synchronised, repaired, bounded, conflict, believed (timeline.py), or payload

How: `clock_pieces` has, per boot, one row for each stretch between two fixes with both of them on it; a record joins the
piece that its boot time falls into (ASOF), and the rest is integer arithmetic, the same as in Python to the millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...core.belief import Trust
from ...core.timekeeper import DRIFT_PPM
from ...core.timeline import MILLION, TimeQuality

SUFFIX = "_repaired"
# Before every boot: the piece that reaches up to the first fix begins here.
_BEFORE_MS = -(2**62)


def clock_statements(source: str | None) -> Iterator[str]:
    """The views over anchors. `source`: the `_time` table as SQL, or None where there is none."""
    yield f"CREATE VIEW clocks AS {_clocks(source)}"
    yield f"CREATE VIEW clock_pieces AS {_PIECES}"


def _clocks(source: str | None) -> str:
    if source is None:
        return (
            "SELECT '' AS edge, '' AS log, '' AS boot, 0::BIGINT AS seq, 0::BIGINT AS boot_ms, "
            "0::BIGINT AS wall_ms, '' AS trust, 0::BIGINT AS error_ms, '' AS source, '' AS reason WHERE false"
        )
    texts = [f"payload->>'{name}' AS {name}" for name in ("boot", "trust", "source", "reason")]
    numbers = [
        f"(payload->>'{name}')::BIGINT AS {name}" for name in ("boot_ms", "wall_ms", "error_ms")
    ]
    columns = ", ".join(("edge", "log", '"offset" AS seq', *texts, *numbers))
    return f"SELECT {columns} FROM {source} WHERE error IS NULL AND edge <> ''"


def _drift(distance: str) -> str:
    return f"((abs({distance})::HUGEINT * {DRIFT_PPM} + {MILLION - 1}) // {MILLION})::BIGINT"


# Anchors → fixes (one per boot time) → what each boot's neighbours say of it → pieces.
_PIECES = f"""
WITH fixes AS (
    SELECT edge, log, boot, boot_ms, wall_ms - boot_ms AS off, error_ms AS err
    FROM clocks WHERE trust = '{Trust.SYNCHRONISED.name.lower()}'
    QUALIFY row_number() OVER (PARTITION BY edge, log, boot, boot_ms ORDER BY off DESC, err DESC) = 1
), boots AS (
    SELECT edge, log, boot, min(seq) AS seq, greatest(max(boot_ms), 0) AS length,
        greatest(max(boot_ms), 0) - {_drift("greatest(max(boot_ms), 0)")} AS lasted
    FROM clocks GROUP BY ALL
), ends AS (
    SELECT edge, log, boot,
        arg_min(off + err + {_drift("boot_ms")}, boot_ms) AS began,
        arg_max(off - err, boot_ms) AS last_off, max(boot_ms) AS last_ms
    FROM fixes GROUP BY ALL
), summed AS (
    SELECT b.*, e.began, b.length + e.last_off - {_drift("b.length - e.last_ms")} AS ended,
        coalesce(sum(b.lasted) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::BIGINT AS before
    FROM boots b LEFT JOIN ends e USING (edge, log, boot)
    WINDOW w AS (PARTITION BY edge, log ORDER BY seq)
), neighbours AS (
    SELECT edge, log, boot, length, began IS NOT NULL AS fixed,
        before + max(ended - before - lasted) OVER
            (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS after_ms,
        before + lasted + min(began - before) OVER
            (w ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS before_ms
    FROM summed WINDOW w AS (PARTITION BY edge, log ORDER BY seq)
), stretches AS (
    SELECT edge, log, boot, boot_ms AS from_ms, boot_ms AS l_ms, off AS l_off, err AS l_err,
        lead(boot_ms) OVER w AS r_ms, lead(off) OVER w AS r_off, lead(err) OVER w AS r_err
    FROM fixes WINDOW w AS (PARTITION BY edge, log, boot ORDER BY boot_ms)
    UNION ALL
    SELECT edge, log, boot, {_BEFORE_MS}, min(boot_ms), arg_min(off, boot_ms), arg_min(err, boot_ms), NULL, NULL, NULL
    FROM fixes GROUP BY ALL
)
SELECT s.*, NULL::BIGINT AS length, NULL::BIGINT AS after_ms, NULL::BIGINT AS before_ms FROM stretches s
UNION ALL
SELECT edge, log, boot, {_BEFORE_MS}, NULL, NULL, NULL, NULL, NULL, NULL, length, after_ms, before_ms
FROM neighbours WHERE NOT fixed
"""

_FIELDS = "['boot', 'trust', 'off']"
_MARK = "'^([0-9a-f]{8})/([0-9])/(-?[0-9]+)$'"


def repaired_select(view: str, *, marked: bool) -> str:
    """`view`: SQL with the columns of a table that a sink made; `marked`: among them `clock_mark`.

    What is added on the way is called `hw__…`, so that no payload's field can be in its way.
    """
    mark = "clock_mark" if marked else "NULL::VARCHAR"
    own = "COLUMNS(c -> NOT starts_with(c, 'hw__'))"
    l_slack = f"(hw__l_err + {_drift('hw__b - hw__l_ms')})"
    r_slack = f"(hw__r_err + {_drift('hw__r_ms - hw__b')})"
    rest = "greatest(hw__length - hw__b, 0)"
    return f"""
WITH marked AS (
    SELECT *, regexp_extract({mark}, {_MARK}, {_FIELDS}) AS hw__mark, epoch_ms(arrival) AS hw__ms,
        try_cast(hw__mark['off'] AS BIGINT) AS hw__off, hw__ms - hw__off AS hw__b
    FROM {view}
), placed AS (
    SELECT marked.*, p.from_ms AS hw__from,
        p.l_ms AS hw__l_ms, p.l_off AS hw__l_off, p.l_err AS hw__l_err,
        p.r_ms AS hw__r_ms, p.r_off AS hw__r_off, p.r_err AS hw__r_err,
        p.length AS hw__length, p.after_ms AS hw__after, p.before_ms AS hw__before
    FROM marked ASOF LEFT JOIN clock_pieces p
        ON marked.edge = p.edge AND marked.log = p.log AND marked.hw__mark['boot'] = p.boot
        AND marked.hw__b >= p.from_ms
), bounded AS (
    SELECT *,
        hw__l_off - {l_slack} AS hw__ll, hw__l_off + {l_slack} AS hw__lh,
        hw__r_off - {r_slack} AS hw__rl, hw__r_off + {r_slack} AS hw__rh,
        hw__after - {_drift("hw__b")} AS hw__al,
        hw__before - {rest} + {_drift(rest)} - hw__b AS hw__bh,
        greatest(hw__ll, hw__rl, hw__al) AS hw__low, least(hw__lh, hw__rh, hw__bh) AS hw__high,
        CASE WHEN hw__l_off IS NULL THEN hw__off WHEN hw__r_off IS NULL THEN hw__l_off
            ELSE hw__l_off + sign(hw__r_off - hw__l_off)::BIGINT * ((abs(hw__r_off - hw__l_off)::HUGEINT
                * (hw__b - hw__l_ms)) // (hw__r_ms - hw__l_ms))::BIGINT END AS hw__guess
    FROM placed
), judged AS (
    SELECT *, coalesce(hw__low > hw__high, false) AS hw__torn,
        CASE WHEN hw__torn THEN least(hw__ll, hw__rl, hw__high) ELSE hw__low END AS hw__lo,
        CASE WHEN hw__torn THEN greatest(hw__lh, hw__rh, hw__low) ELSE hw__high END AS hw__hi,
        CASE WHEN hw__from IS NULL THEN hw__ms
            ELSE hw__b + least(greatest(hw__guess, hw__lo), hw__hi) END AS hw__repaired,
        CASE WHEN hw__torn THEN '{TimeQuality.CONFLICT}'
            WHEN hw__l_off IS NOT NULL AND hw__mark['trust'] = '{Trust.SYNCHRONISED.value}'
                THEN '{TimeQuality.SYNCHRONISED}'
            WHEN hw__l_off IS NOT NULL THEN '{TimeQuality.REPAIRED}'
            WHEN hw__lo IS NULL AND hw__hi IS NULL THEN '{TimeQuality.BELIEVED}'
            ELSE '{TimeQuality.BOUNDED}' END AS hw__quality,
        ts_source = 'payload' AS hw__own
    FROM bounded
)
SELECT {own}, {_moment("hw__repaired")} AS arrival_repaired,
    CASE WHEN hw__own THEN ts ELSE {_moment("hw__repaired")} END AS ts_repaired,
    CASE WHEN NOT hw__own THEN {_moment("hw__b + hw__lo")} END AS ts_lo,
    CASE WHEN NOT hw__own THEN {_moment("hw__b + hw__hi")} END AS ts_hi,
    CASE WHEN hw__own THEN 'payload' ELSE hw__quality END AS ts_quality
FROM judged
"""


def _moment(milliseconds: str) -> str:
    return f"make_timestamp_ms({milliseconds}) AT TIME ZONE 'UTC'"
