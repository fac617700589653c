"""Soak: hours of mixed load against real daemons, sampled from outside, judged at the end (`make soak`, docs/soak.md).

`crowd.py`, `counted.py`, `unruly.py` and `foreign.py` are who publishes, subscribes and misbehaves, in a process of
their own (`load.py`); `trouble.py` kills and freezes the cloud and reloads the edge; `sampling.py` reads the kernel's and
the daemons' own figures; `verdict.py` says whether they are flat; `accounts.py` whether all that was acknowledged is in
the lake; `report.py` writes it down.
"""
