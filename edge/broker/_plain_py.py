"""The plain case in one go: PUBLISH packets without anything special on topics that are known, and PUBACK without a reason.

This is what sensors and subscribers send all day. `take_plain` scans, looks the topic up and appends, until it meets
anything else: a packet that is not plain (see `edge/mqtt/_scan_py.py` for what is), a topic without a route, a route with
early acknowledgements, a journal that refuses. There it stops, with nothing of that packet done, and the ordinary path
(`intake.py`) goes on from that byte. So what it does, the ordinary path would have done with the same result; both are
under the same tests, and so is the compiled twin `_plain.pyx`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...core.errors import HeadwaterError
from ..mqtt._scan_py import scan_publishes

if TYPE_CHECKING:
    from .doubts import Fresh
    from .routing import Route

_PLAIN_PUBACK = b"\x40\x02"


def take_plain(  # noqa: PLR0917 - by position, because names cost as much as a parsed packet
    data: bytes,
    packet_bytes_max: int,
    with_properties: bool,
    known: dict[bytes, Route],
    generation: int,
    now_ms: int,
    acks: list[bytes],
    offer: Callable[[Route, bytes, int, int], None],
    settle: Callable[[int], None],
    told: list[Fresh] | None,
) -> tuple[int, int]:
    """(position of the first byte not taken, publishes taken). The PUBACKs of those at QoS 1 are added to `acks`.

    `offer(route, payload, qos, offset)` is called for what may have subscribers, when it is appended; `settle(packet_id)`
    for each PUBACK. `told`, where repetitions are looked for (doubts.py), gets each publish at QoS 1. Nothing is raised.
    """
    position = taken = 0
    while True:
        if data[position : position + 2] == _PLAIN_PUBACK and packet_bytes_max >= 4:
            packet_id = int.from_bytes(data[position + 2 : position + 4], "big")
            if len(data) < position + 4 or not packet_id:
                return position, taken
            settle(packet_id)
            position += 4
            continue
        # one at a time: where the second is not for us, the first is done all the same
        run, end = scan_publishes(_first(data, position), 0, packet_bytes_max, with_properties)
        if not run:
            return position, taken
        topic, payload, puback = run[0]
        route = known.get(topic)
        if route is None or route.early is not None:
            return position, taken
        try:
            offset = route.append(
                now_ms, route.key, payload, route.headers if puback else route.headers_qos_0
            )
        except HeadwaterError:
            return position, taken
        if puback:
            acks.append(puback)
            if told is not None:
                told.append((topic, payload, int.from_bytes(puback[2:], "big"), True))
        if route.quiet != generation:
            offer(route, payload, 1 if puback else 0, offset)
        taken += 1
        position += end


def _first(data: bytes, position: int) -> bytes:
    """The packet that begins at `position`, or what is left where it is not whole."""
    length = shift = 0
    for index in range(position + 1, min(position + 5, len(data))):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return data[position : index + 1 + length]
    return data[position:]
