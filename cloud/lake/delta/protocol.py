"""The protocol action: what a reader and a writer must understand to touch this table."""

from __future__ import annotations

import msgspec

from ....core.errors import Refused

READER_VERSION = 1
WRITER_VERSION = 2


class Protocol(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    min_reader_version: int
    min_writer_version: int
    reader_features: list[str] | None = None
    writer_features: list[str] | None = None

    def check_readable(self, table: str) -> None:
        if self.min_reader_version > READER_VERSION:
            raise Refused(
                f"table {table} asks for Delta reader version {self.min_reader_version} "
                f"{self.reader_features or ''}; this is version {READER_VERSION}"
            )

    def check_writable(self, table: str) -> None:
        self.check_readable(table)
        if self.min_writer_version > WRITER_VERSION:
            raise Refused(
                f"table {table} asks for Delta writer version {self.min_writer_version} "
                f"{self.writer_features or ''}; this is version {WRITER_VERSION}: "
                "another writer upgraded it; give the sink another lake location or rewrite the table"
            )


OURS = Protocol(min_reader_version=READER_VERSION, min_writer_version=WRITER_VERSION)
