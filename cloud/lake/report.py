"""What `verify` found, for a person and for a script."""

from __future__ import annotations

import msgspec

from ...core.gap import Gap

_LINES_MAX = 40


class TableProof(msgspec.Struct, kw_only=True):
    name: str
    version: int
    files: int
    rows: int
    dead_letters: int
    duplicates: int


class PlaceProof(msgspec.Struct, kw_only=True):
    """One edge partition: rows + declared lost + missing + awaited = position, unless some are there twice."""

    edge: str
    log: str
    stream: str
    partition: int
    position: int
    rows: int
    dead_letters: int
    declared_lost: int
    missing: list[tuple[int, int]]
    twice: list[tuple[int, int]]
    awaited: list[tuple[int, int]] = []
    """Below live data that are there: history that still fills in."""


class KafkaProof(msgspec.Struct, kw_only=True):
    cluster: str
    topic: str
    partition: int
    first: int
    position: int
    rows: int
    duplicates: int
    absent: int
    lost: int
    missing: list[tuple[int, int]]


class Report(msgspec.Struct, kw_only=True):
    """`problems` is empty where nothing is wrong. `notes` are worth knowing and no failure."""

    lake: str
    edge: str | None = None
    tables: list[TableProof] = msgspec.field(default_factory=list)
    places: list[PlaceProof] = msgspec.field(default_factory=list)
    partitions: list[KafkaProof] = msgspec.field(default_factory=list)
    gaps: list[Gap] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.problems and not self.awaited

    @property
    def awaited(self) -> int:
        """Offsets on their way, below others that are there."""
        return sum(_size(place.awaited) for place in self.places)

    def json(self) -> str:
        fields = msgspec.to_builtins(self)
        return msgspec.json.encode({"complete": self.complete, **fields}).decode()

    def text(self) -> str:
        lines = _grid(
            (
                "edge partition",
                "log",
                "offsets",
                "rows",
                "dead",
                "lost",
                "awaited",
                "missing",
                "twice",
            ),
            [
                (
                    f"{p.edge}/{p.stream}/{p.partition}",
                    p.log,
                    f"0-{p.position - 1}" if p.position else "none",
                    f"{p.rows:,}",
                    f"{p.dead_letters:,}",
                    f"{p.declared_lost:,}",
                    f"{_size(p.awaited):,}",
                    f"{_size(p.missing):,}",
                    f"{_size(p.twice):,}",
                )
                for p in self.places
            ],
        )
        if self.edge is None:
            lines += ["", *self._tables()]
        for title, found in (("note", self.notes), ("PROBLEM", self.problems)):
            lines += [f"{title}: {line}" for line in found[:_LINES_MAX]]
            if len(found) > _LINES_MAX:
                lines.append(f"{title}: … and {len(found) - _LINES_MAX} more (--format json)")
        return "\n".join([*lines, "", self._verdict()])

    def _tables(self) -> list[str]:
        return _grid(
            ("table", "version", "files", "rows", "dead", "duplicates dropped"),
            [
                (
                    table.name,
                    str(table.version),
                    f"{table.files:,}",
                    f"{table.rows:,}",
                    f"{table.dead_letters:,}",
                    f"{table.duplicates:,}",
                )
                for table in self.tables
            ],
        )

    def _verdict(self) -> str:
        rows = sum(p.rows for p in self.places) if self.edge else sum(t.rows for t in self.tables)
        whose = f"edge {self.edge} in {self.lake}" if self.edge else self.lake
        lost = sum(p.declared_lost for p in self.places)
        verdict = "complete" if self.complete else f"NOT COMPLETE: {len(self.problems)} problems"
        if self.awaited and not self.problems:
            verdict = f"NOT COMPLETE YET: {self.awaited:,} offsets are on their way"
        gone = sum(p.lost for p in self.partitions) if self.edge is None else 0
        more = f", {gone:,} retired on the cluster before they were read" if gone else ""
        return f"{whose}: {verdict}; {rows:,} rows, {lost:,} offsets declared lost{more}"


def _size(ranges: list[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Texts to the left, numbers to the right."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    numeric = [
        bool(rows) and all(row[index].replace(",", "").isdecimal() for row in rows)
        for index in range(len(head))
    ]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [head, *rows]
    ]
