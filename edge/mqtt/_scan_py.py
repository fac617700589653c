"""The pure twin of `_scan.pyx`: cut a run of plain PUBLISH packets out of a buffer.

The scanner knows only the good and frequent case: whole PUBLISH packets at QoS 0 or 1, without DUP, RETAIN or
properties. At anything else it stops, and leaves the judgement to `decoding`, which names the reason. So it never
raises, and what it accepts `decoding` accepts with the same result (both are under the same test). It does not look
into topic names: the caller's routes know the legal ones.
"""

from __future__ import annotations


def scan_publishes(
    data: bytes, position: int, packet_bytes_max: int, with_properties: bool
) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    """([(topic, payload, PUBACK or b"" at QoS 0)], position of the first byte not taken).

    `with_properties`: the packets are MQTT 5's, with a property length after the packet identifier.
    """
    run: list[tuple[bytes, bytes, bytes]] = []
    size = len(data)
    while position + 4 <= size:
        first = data[position]
        if first != 0x32 and first != 0x30:  # noqa: PLR1714
            break
        length = data[position + 1]
        start = position + 2
        if length > 127:
            byte = data[position + 2]
            length += (byte << 7) - 128
            start = position + 3
            if byte > 127:
                byte = data[position + 3]
                length += (byte << 14) - 16384
                start = position + 4
                if byte > 127:
                    break  # above 2 MiB, or malformed
            if byte == 0:
                break  # not the shortest form
        end = start + length
        if end > size or end - position > packet_bytes_max or length < 2:
            break
        topic_end = start + 2 + (data[start] << 8) + data[start + 1]
        if topic_end == start + 2:
            break  # no topic name: 3.1.1 and 5 call it differently
        body = topic_end
        puback = b""
        if first == 0x32:
            body += 2
            if body > end:
                break
            packet_id = data[topic_end:body]
            if packet_id == b"\0\0":
                break
            puback = b"@\x02" + packet_id
        if with_properties:
            if body >= end or data[body]:
                break
            body += 1
        if body > end:
            break
        run.append((data[start + 2 : topic_end], data[body:end], puback))
        position = end
    return run, position
