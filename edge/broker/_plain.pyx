# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `_plain_py.py`: same signature, same answers, under the same tests. The theory stands there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from ...core.errors import HeadwaterError

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)


def take_plain(
    bytes data not None,
    Py_ssize_t packet_bytes_max,
    bint with_properties,
    dict known not None,
    generation,
    now_ms,
    list acks not None,
    offer,
    settle,
    list told,
):
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t taken = 0
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t length, start, end, topic_end, body
    cdef unsigned char first, byte
    cdef unsigned char puback[4]
    cdef PyObject *found
    cdef object route, offset
    cdef bytes topic, payload
    puback[0] = 0x40
    puback[1] = 0x02
    while position + 4 <= size:
        first = at[position]
        if first == 0x40:
            length = (<Py_ssize_t>at[position + 2] << 8) + at[position + 3]
            if at[position + 1] != 2 or length == 0 or packet_bytes_max < 4:
                break
            settle(length)
            position += 4
            continue
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
        if first == 0x32:
            body += 2
            if body > end:
                break
            puback[2] = at[topic_end]
            puback[3] = at[topic_end + 1]
            if puback[2] == 0 and puback[3] == 0:
                break
        if with_properties:
            if body >= end or at[body]:
                break
            body += 1
        if body > end:
            break
        topic = PyBytes_FromStringAndSize(<char *>at + start + 2, topic_end - start - 2)
        found = PyDict_GetItem(known, topic)
        if found == NULL:
            break
        route = <object>found
        if route.quiet != generation and route.early is not None:
            break
        payload = PyBytes_FromStringAndSize(<char *>at + body, end - body)
        try:
            offset = route.append(
                now_ms,
                route.key,
                payload,
                route.headers if first == 0x32 else route.headers_qos_0,
            )
        except HeadwaterError:
            break
        if first == 0x32:
            acks.append(PyBytes_FromStringAndSize(<char *>puback, 4))
            if told is not None:
                told.append((topic, payload, (<int>puback[2] << 8) + puback[3], True))
        if route.quiet != generation:
            offer(route, payload, 1 if first == 0x32 else 0, offset)
        taken += 1
        position = end
    return position, taken
