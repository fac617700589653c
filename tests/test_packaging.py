"""What an install holds: every room under `headwater`, nothing else, with or without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files git knows, as a fresh clone would hold them: nothing compiled, nothing left over."""
    target = tmp_path_factory.mktemp("clone") / "headwater"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        elif source.is_file():
            shutil.copy2(source, copy)
    return target


def _wheel(checkout: Path, out: Path, **environ: str) -> list[str]:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), "."],
        cwd=checkout,
        env={**os.environ, **environ},
        capture_output=True,
        check=True,
        timeout=110,
    )
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_a_wheel_holds_every_room_and_nothing_beside_headwater(
    checkout: Path, tmp_path: Path
) -> None:
    """Without a C compiler: the pure twins serve, and the install does not fail."""
    names = _wheel(checkout, tmp_path, CC="/bin/false")
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"headwater"}
    for room in ("core", "edge", "cloud", "hardware"):
        sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / room).rglob("*.py")}
        assert {f"headwater/{source}" for source in sources} <= set(names)
    assert "headwater/py.typed" in names
    assert not [name for name in names if name.endswith(".so")]


def test_leaves_are_compiled_where_there_is_a_compiler(checkout: Path, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    names = _wheel(checkout, tmp_path)
    leaves = [p for room in ("core", "edge", "cloud") for p in (ROOT / room).rglob("*.pyx")]
    assert leaves
    for leaf in leaves:
        stem = f"headwater/{leaf.relative_to(ROOT).with_suffix('').as_posix()}."
        assert [name for name in names if name.startswith(stem) and name.endswith(".so")]
