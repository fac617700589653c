"""`python -m tests.fuzz [TARGET …] [--seconds N] [--keep]`: see the package's docstring."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from . import corpus
from .names import TARGETS

# Above what any target may hold: libFuzzer ends the run with the input that asked for more.
RSS_LIMIT_MB = 1024
INPUT_SECONDS_MAX = 5


def main() -> int:
    flags = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    flags.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    flags.add_argument("--seconds", type=int, default=60, help="of each target (default: 60)")
    flags.add_argument("--seed", type=int, default=0, help="0: another one each time")
    flags.add_argument(
        "--keep", action="store_true", help="add what reaches new code to the corpus"
    )
    options = flags.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        flags.error(f"no target {min(unknown)!r}; there are {', '.join(TARGETS)}")
    failed = [each for each in options.targets or TARGETS if not run(each, options)]
    for target in failed:
        print(f"FAILED: {target}", file=sys.stderr)
    return 1 if failed else 0


def run(target: str, options: argparse.Namespace) -> bool:
    """True where nothing was found. A crashing input is printed as the line to add to the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        found, start = Path(folder) / "found", Path(folder) / "start"
        found.mkdir()
        start.mkdir()
        for number, data in enumerate(corpus.load(target)):
            (start / f"{number:06d}").write_bytes(data)
        print(f"fuzzing {target} for {options.seconds} s", flush=True)
        arguments = [
            *(f"-max_total_time={options.seconds}", f"-rss_limit_mb={RSS_LIMIT_MB}"),
            *(f"-timeout={INPUT_SECONDS_MAX}", f"-max_len={corpus.INPUT_BYTES_MAX}"),
            *(f"-seed={options.seed}", f"-artifact_prefix={folder}/", "-print_final_stats=1"),
        ]
        code = _engine(target, [*arguments, str(found), str(start)])
        for path in sorted(Path(folder).glob("crash-*")) + sorted(Path(folder).glob("timeout-*")):
            print(
                f"{target}: {path.name.partition('-')[0]}, add to its corpus:\n{path.read_bytes().hex()}"
            )
        if options.keep:
            new = [path.read_bytes() for path in found.iterdir()]
            corpus.save(target, [*corpus.load(target), *new])
            print(f"{target}: {len(new)} inputs reached new code")
        return code == 0


def _engine(target: str, arguments: list[str]) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.engine", target, *arguments]
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
