"""Power cuts under a real file system: what the block device was told, replayed as of any moment.

    a file served by FUSE (device.py)  ←  loop device  ←  ext4  ←  the real `headwater edge`  ←  MQTT publishers
         └ writes down every write and flush, in order          (recording.py notes at each PUBACK how many there were)

A crash state is that record cut anywhere: what was flushed is there, what was not is kept, lost or torn as the device
model says (crashes.py). Each is mounted, so ext4 replays its own journal, then opened by the real recovery and judged
(oracle.py): every message acknowledged before the cut is there exactly once, at its offset; what is there is a prefix
plus declared gaps; start-up never refuses, and what is appended next is kept too. On some states of the recordings with
lasting clients (lasting.py, company.py, upstream.py, story.py) the daemon itself starts (warm.py), the clients of that
world come back to it (resuming.py, bridging.py), and what they meet is judged as well (promises.py). Broken twins of the
daemon (defects.py) must be condemned.

`make durability` writes docs/durability.md. Needs root, /dev/fuse, loop devices, libfuse3, e2fsprogs.
The run has a mount namespace of its own and loop devices that clear themselves, so nothing is left when it is killed.
"""
