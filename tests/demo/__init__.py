"""The demo's parts by themselves; the demo as a whole runs in tests/crash."""
