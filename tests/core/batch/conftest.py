"""Every test that asks for `leaf` runs over both twins of the records leaf."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol, cast

import pytest

from headwater.core import _records_py, batch
from headwater.core._records_py import Columns, RecordLike, Span
from headwater.core.compression import Buffer
from headwater.core.record import Headers, StoredRecord


class Leaf(Protocol):
    COMPILED: bool

    def encode_records(self, records: Sequence[RecordLike]) -> tuple[bytes, int, int]: ...

    def encode_addressed(
        self, records: Sequence[StoredRecord], prefix: bytes, log: bytes, more: Headers = ()
    ) -> tuple[bytes, int, int]: ...

    def decode_records(self, section: Buffer, span: Span) -> list[StoredRecord]: ...

    def decode_columns(self, section: Buffer, span: Span) -> Columns: ...


def compiled() -> ModuleType:
    try:
        return importlib.import_module("headwater.core._records")
    except ImportError:
        reason = "the records leaf is not built: python setup.py build_ext --inplace"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(params=["pure", "compiled"])
def leaf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Leaf:
    module = _records_py if request.param == "pure" else compiled()
    monkeypatch.setattr(batch, "_leaf", module)
    return cast("Leaf", module)
