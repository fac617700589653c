"""One file per sub-command: `configure(parser)` declares its flags, `run(options)` does it and returns the exit status."""
