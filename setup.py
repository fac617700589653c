"""The compiled half of the build: optional leaves, each with a pure twin of the same signature.

Rule: an install never fails because of a leaf. Without Cython or a C compiler the twins are used.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

PACKAGE = Path("headwater")
ROOMS = ("core", "edge", "cloud")


def leaves() -> list[Path]:
    # Room by room: a recursive glob does not descend into headwater/core -> ../core.
    return sorted(path for room in ROOMS for path in (PACKAGE / room).glob("**/*.pyx"))


def _source_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def extensions() -> list[Extension]:
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    modules: list[Extension] = cythonize(
        [
            Extension(
                ".".join(path.with_suffix("").parts),
                [path.as_posix()],
                # so that a leaf can be told from one that was built of an older source (core/leaves.py)
                define_macros=[("HW_SOURCE", f'"{_source_hash(path)}"')],
            )
            for path in leaves()
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": 3},
    )
    for module in modules:
        module.optional = True  # must be set here: cythonize() drops the flag
    return modules


setup(ext_modules=extensions())
