"""The benchmark: `python -m tests.bench` measures side by side and writes docs/benchmarks.md."""
