"""How fast this edge wears its flash, and what it does about it.

`settings.py` the budget; `control.py` the pace of commits that keeps it (sans-I/O); `account.py` what was written, over
reboots; `wear.py` the rim that reads the kernel, moves the committer's interval and tells the state of it.
"""
