"""Compiled leaves: built from the source beside them, or not used."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from headwater.core import leaves

PURE = (
    "headwater.core._records_py",
    "headwater.core.journal.files._opencommit_py",
    "headwater.edge.mqtt._scan_py",
    "headwater.edge.broker._plain_py",
    "headwater.edge.sockets._epoll_py",
)


@pytest.mark.parametrize("name", PURE)
def test_every_leaf_was_built_from_the_source_beside_it(name: str) -> None:
    pure = importlib.import_module(name)
    try:
        leaf = importlib.import_module(name.removesuffix("_py"))
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("the leaf is not built")
        pytest.skip("the leaf is not built: python setup.py build_ext --inplace")
    assert pure.__file__ is not None
    source = Path(pure.__file__.removesuffix("_py.py") + ".pyx")
    assert leaves.source_hash(source) == leaf.SOURCE, "python setup.py build_ext --inplace"


def _copied(tmp_path: Path) -> ModuleType:
    """The scanner's twins in a package of their own, whose source can be changed."""
    folder = tmp_path / "copied"
    folder.mkdir()
    (folder / "__init__.py").touch()
    pure = importlib.import_module("headwater.edge.mqtt._scan_py")
    assert pure.__file__ is not None
    for path in Path(pure.__file__).parent.glob("_scan*"):
        shutil.copy(path, folder / path.name)
    if not list(folder.glob("_scan.*.so")):
        pytest.skip("the leaf is not built")
    sys.path.insert(0, str(tmp_path))
    try:
        return importlib.import_module("copied._scan_py")
    finally:
        sys.path.remove(str(tmp_path))


def test_a_leaf_of_another_source_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaves, "PURE_FORCED", False)
    pure = _copied(tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        assert leaves.compiled(pure) is not None
        source = tmp_path / "copied" / "_scan.pyx"
        source.write_text(source.read_text() + "# changed\n")
        assert leaves.compiled(pure) is None
        source.unlink()
        assert leaves.compiled(pure) is not None, "installed without its source"
        monkeypatch.setattr(leaves, "PURE_FORCED", True)
        assert leaves.compiled(pure) is None
    finally:
        sys.path.remove(str(tmp_path))
        for name in [each for each in sys.modules if each.startswith("copied")]:
            del sys.modules[name]
