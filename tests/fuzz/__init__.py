"""Coverage-guided fuzzing of everything that reads bytes from strangers: see targets.py for what is claimed.

    python -m tests.fuzz                    every target for a minute each
    python -m tests.fuzz --seconds 3600     an hour each (`make fuzz FUZZ='--seconds 3600'`)
    python -m tests.fuzz broker --keep      keep what reaches new code, as lines of tests/fuzz/corpus/broker.txt

What was found once stays: `crash-…` inputs are added to the corpus, which every test run replays.
"""
