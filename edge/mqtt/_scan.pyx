# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `_scan_py.py`: same signature, same answers, under the same tests. The theory stands there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)


def scan_publishes(
    bytes data not None, Py_ssize_t position, Py_ssize_t packet_bytes_max, bint with_properties
):
    cdef list run = []
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t length, start, end, topic_end, body
    cdef unsigned char first, byte
    cdef unsigned char puback[4]
    cdef bytes acknowledgement
    puback[0] = 0x40
    puback[1] = 0x02
    while position + 4 <= size:
        first = at[position]
        if first != 0x32 and first != 0x30:
            break
        length = at[position + 1]
        start = position + 2
        if length > 127:
            byte = at[position + 2]
            length += (<Py_ssize_t>byte << 7) - 128
            start = position + 3
            if byte > 127:
                byte = at[position + 3]
                length += (<Py_ssize_t>byte << 14) - 16384
                start = position + 4
                if byte > 127:
                    break
            if byte == 0:
                break
        end = start + length
        if end > size or end - position > packet_bytes_max or length < 2:
            break
        topic_end = start + 2 + (<Py_ssize_t>at[start] << 8) + at[start + 1]
        if topic_end == start + 2:
            break
        body = topic_end
        acknowledgement = b""
        if first == 0x32:
            body += 2
            if body > end:
                break
            puback[2] = at[topic_end]
            puback[3] = at[topic_end + 1]
            if puback[2] == 0 and puback[3] == 0:
                break
            acknowledgement = PyBytes_FromStringAndSize(<char *>puback, 4)
        if with_properties:
            if body >= end or at[body]:
                break
            body += 1
        if body > end:
            break
        run.append((
            PyBytes_FromStringAndSize(<char *>at + start + 2, topic_end - start - 2),
            PyBytes_FromStringAndSize(<char *>at + body, end - body),
            acknowledgement,
        ))
        position = end
    return run, position
