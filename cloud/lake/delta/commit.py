"""One version of the log: a JSON object per line, each with one action."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ....core.errors import Corrupt
from .add import Add
from .commitinfo import CommitInfo
from .metadata import Metadata
from .protocol import Protocol
from .remove import Remove
from .txn import Txn


class _Line(
    msgspec.Struct, omit_defaults=True, rename={"metadata": "metaData", "info": "commitInfo"}
):
    """Unknown actions are ignored, as the protocol asks of readers at version 1."""

    info: CommitInfo | None = None
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    txn: Txn | None = None
    remove: Remove | None = None
    add: Add | None = None


_decoder = msgspec.json.Decoder(_Line)


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What one version changes."""

    info: CommitInfo | None = None
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    txns: tuple[Txn, ...] = ()
    removes: tuple[Remove, ...] = ()
    adds: tuple[Add, ...] = ()

    def encode(self) -> bytes:
        lines: list[_Line] = [_Line(info=self.info)] if self.info else []
        if self.protocol:
            lines.append(_Line(protocol=self.protocol))
        if self.metadata:
            lines.append(_Line(metadata=self.metadata))
        lines += [_Line(txn=txn) for txn in self.txns]
        lines += [_Line(remove=remove) for remove in self.removes]
        lines += [_Line(add=add) for add in self.adds]
        return msgspec.json.Encoder().encode_lines(lines)

    @classmethod
    def decode(cls, data: bytes, *, key: str) -> Commit:
        try:
            return cls.of(_decoder.decode_lines(data))
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{key} is not a Delta commit: {error}") from error

    @classmethod
    def of(cls, lines: Iterable[_Line]) -> Commit:
        info = protocol = metadata = None
        txns: list[Txn] = []
        removes: list[Remove] = []
        adds: list[Add] = []
        for line in lines:
            info = line.info or info
            protocol = line.protocol or protocol
            metadata = line.metadata or metadata
            if line.txn:
                txns.append(line.txn)
            if line.remove:
                removes.append(line.remove)
            if line.add:
                adds.append(line.add)
        return cls(
            info=info,
            protocol=protocol,
            metadata=metadata,
            txns=tuple(txns),
            removes=tuple(removes),
            adds=tuple(adds),
        )
