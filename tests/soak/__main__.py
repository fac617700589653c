"""Run a soak: `python -m tests.soak --hours 4` or `--minutes 2`; the exit status is 1 where the verdict is no.

Everything it leaves is in a folder under var/: logs, samples as CSV, the report, which is copied to `--write` where given.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from .soak import Options, Soak

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    flags = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    length = flags.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, default=4.0)
    length.add_argument("--minutes", type=float)
    flags.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    flags.add_argument("--rate", type=float, default=300.0, help="counted publishes a second")
    flags.add_argument(
        "--sample", type=float, help="seconds between samples; 10, less in a short run"
    )
    flags.add_argument("--dir", type=Path, default=ROOT / "var" / "soak")
    flags.add_argument("--write", type=Path, help="copy the report there, such as docs/soak.md")
    given = flags.parse_args()
    seconds = given.minutes * 60 if given.minutes else given.hours * 3600
    options = Options(
        seconds=seconds,
        seed=given.seed,
        rate=given.rate,
        sample_s=given.sample or min(10.0, max(1.0, seconds / 200)),
        directory=given.dir,
    )
    outcome, text = Soak(options).run()
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
