"""One target under libFuzzer, by atheris: `python -m tests.fuzz.engine TARGET [libFuzzer's options and folders]`.

Our packages are instrumented as they are imported, so that the search is led by their branches.
"""

from __future__ import annotations

import sys

import atheris

# longest first: what lies under `headwater.edge` and what it uses of `headwater.core`
INSTRUMENTED = ["headwater.edge", "headwater.core"]


def main() -> None:
    target = sys.argv.pop(1)
    with atheris.instrument_imports(include=INSTRUMENTED):
        from .targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
