# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The records section of a batch, compiled: the twin of `_records_py.py`, which tells the layout and the rules.

Writing goes over the records twice: once for the size, so that there is one allocation, once for the bytes. Reading works on a
borrowed pointer; every read is held against `end`, the end of its record, which itself was held against the section's.
"""

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_SIZE, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from .errors import Corrupt, Refused
from .record import ADDRESS_HEADER, LOG_HEADER, StoredRecord
from ._records_py import RECORD_BYTES_MIN, Span

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)

cdef extern from *:
    """
    static inline int hw_sub_overflows(int64_t a, int64_t b, int64_t *out) { return __builtin_sub_overflow(a, b, out); }
    static inline int hw_add_overflows(int64_t a, int64_t b, int64_t *out) { return __builtin_add_overflow(a, b, out); }
    static inline PyObject *hw_new_tuple(PyObject *type, Py_ssize_t size) {
        return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, size);
    }
    """
    object hw_new_tuple(object type, Py_ssize_t size)
    bint hw_sub_overflows(int64_t a, int64_t b, int64_t* out)
    bint hw_add_overflows(int64_t a, int64_t b, int64_t* out)

COMPILED = True

cdef enum:
    RECORD_MIN = 7
    NAMES_MAX = 8  # header names remembered while a batch is read: records of a batch nearly always share them
    DIGITS_MAX = 20

assert RECORD_MIN == RECORD_BYTES_MIN

cdef bytes _ADDRESS_NAME = ADDRESS_HEADER.encode()
cdef bytes _LOG_NAME = LOG_HEADER.encode()
cdef object _STORED = StoredRecord


# -- writing ---------------------------------------------------------------------------------------------------------


cdef inline uint64_t _zigzag(int64_t value) noexcept nogil:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef inline Py_ssize_t _varint_size(int64_t value) noexcept nogil:
    cdef uint64_t rest = _zigzag(value)
    cdef Py_ssize_t size = 1
    while rest > 0x7F:
        rest >>= 7
        size += 1
    return size


cdef inline uint8_t* _put_varint(uint8_t* out, int64_t value) noexcept nogil:
    cdef uint64_t rest = _zigzag(value)
    while rest > 0x7F:
        out[0] = <uint8_t>(rest & 0x7F | 0x80)
        out += 1
        rest >>= 7
    out[0] = <uint8_t>rest
    return out + 1


cdef inline uint8_t* _put(uint8_t* out, const char* data, Py_ssize_t size) noexcept nogil:
    memcpy(out, data, size)
    return out + size


cdef inline bytes _as_bytes(object value):
    return <bytes>value if PyBytes_CheckExact(value) else bytes(memoryview(value))


cdef inline Py_ssize_t _blob_size(object value) except -1:
    """With its length in front."""
    cdef Py_ssize_t size = 0
    if value is None:
        return 1
    size = PyBytes_GET_SIZE(value) if PyBytes_CheckExact(value) else memoryview(value).nbytes
    return _varint_size(size) + size


cdef inline uint8_t* _put_blob(uint8_t* out, object value) except NULL:
    cdef bytes data
    if value is None:
        out[0] = 1
        return out + 1
    data = _as_bytes(value)
    out = _put_varint(out, PyBytes_GET_SIZE(data))
    return _put(out, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef Py_ssize_t _headers_size(object headers) except -1:
    """Of the headers alone, without their count."""
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t size = 0
    for name, value in headers:
        PyUnicode_AsUTF8AndSize(name, &size)
        total += _varint_size(size) + size + _blob_size(value)
    return total


cdef uint8_t* _put_headers(uint8_t* out, object headers) except NULL:
    cdef Py_ssize_t size = 0
    cdef const char* text
    for name, value in headers:
        text = PyUnicode_AsUTF8AndSize(name, &size)
        out = _put(_put_varint(out, size), text, size)
        out = _put_blob(out, value)
    return out


cdef inline int _digits(uint64_t value, char* out) noexcept nogil:
    """ASCII, right-aligned in DIGITS_MAX bytes; returns how many."""
    cdef int count = 0
    while True:
        count += 1
        out[DIGITS_MAX - count] = <char>(48 + value % 10)
        value //= 10
        if value == 0:
            return count


cdef int64_t _int64(object value) except? -1:
    try:
        return value
    except OverflowError:
        raise Refused(f"a timestamp or offset of {value} does not fit into 64 bits") from None


cdef bytes _packed_headers(tuple headers):
    """As they stand in every record that has them."""
    cdef Py_ssize_t size = _headers_size(headers)
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    _put_headers(<uint8_t*>PyBytes_AS_STRING(result), headers)
    return result


cdef tuple _encode(object records, bint stored, bytes prefix, bytes log, tuple more):
    """Both encoders. `stored` records begin with an offset, and get the two headers of an address, and `more`."""
    cdef list rows = list(records)
    cdef Py_ssize_t count = len(rows)
    cdef Py_ssize_t width = 5 if stored else 4
    cdef Py_ssize_t index, body, capacity = 0, header_count
    cdef Py_ssize_t trailer = 0  # of the address headers, without the address's value
    cdef int64_t base, newest, timestamp, delta = 0, offset
    cdef char digits[DIGITS_MAX]
    cdef int digit_count
    cdef tuple row
    cdef object key, value, headers
    cdef bytes result
    cdef bytes tail = _packed_headers(more) if more else b""
    cdef Py_ssize_t tail_size = len(tail)
    cdef Py_ssize_t tail_count = len(more)
    cdef uint8_t* out
    cdef uint8_t* start
    if count == 0:
        raise Refused("a batch holds at least one record")
    for index in range(count):
        if not PyTuple_Check(rows[index]) or PyTuple_GET_SIZE(rows[index]) != width:
            raise TypeError(f"a record is a tuple of {width}, not {rows[index]!r}")
        row = <tuple>rows[index]
        capacity += 40 + _blob_size(row[width - 3]) + _blob_size(row[width - 2])
        headers = row[width - 1]
        if headers:
            capacity += _headers_size(headers)
    if stored:
        trailer = 1 + len(_ADDRESS_NAME) + 1 + len(_LOG_NAME) + _blob_size(log) + tail_size
        capacity += count * (trailer + 5 + len(prefix) + DIGITS_MAX)
    base = newest = _int64((<tuple>rows[0])[width - 4])
    result = PyBytes_FromStringAndSize(NULL, capacity)
    start = out = <uint8_t*>PyBytes_AS_STRING(result)
    for index in range(count):
        row = <tuple>rows[index]
        timestamp = _int64(row[width - 4])
        if hw_sub_overflows(timestamp, base, &delta):
            raise Refused(f"timestamps {base} and {timestamp} do not fit into one batch")
        if timestamp > newest:
            newest = timestamp
        key = row[width - 3]
        value = row[width - 2]
        headers = row[width - 1]
        header_count = len(headers)
        body = 1 + _varint_size(delta) + _varint_size(index) + _blob_size(key) + _blob_size(value)
        if header_count:
            body += _headers_size(headers)
        digit_count = 0
        if stored:
            offset = _int64(row[0])
            if offset < 0:
                raise Refused(f"an offset of {offset} is no address")
            digit_count = _digits(<uint64_t>offset, digits)
            header_count += 2 + tail_count
            body += trailer + _varint_size(len(prefix) + digit_count) + len(prefix) + digit_count
        body += _varint_size(header_count)
        out = _put_varint(out, body)
        out[0] = 0
        out = _put_varint(_put_varint(out + 1, delta), index)
        out = _put_blob(_put_blob(out, key), value)
        out = _put_varint(out, header_count)
        if headers:
            out = _put_headers(out, headers)
        if stored:
            out = _put_varint(out, len(_ADDRESS_NAME))
            out = _put(out, PyBytes_AS_STRING(_ADDRESS_NAME), len(_ADDRESS_NAME))
            out = _put_varint(out, len(prefix) + digit_count)
            out = _put(out, PyBytes_AS_STRING(prefix), len(prefix))
            out = _put(out, digits + DIGITS_MAX - digit_count, digit_count)
            out = _put_varint(out, len(_LOG_NAME))
            out = _put(out, PyBytes_AS_STRING(_LOG_NAME), len(_LOG_NAME))
            out = _put(_put_blob(out, log), PyBytes_AS_STRING(tail), tail_size)
    return PyBytes_FromStringAndSize(<char*>start, out - start), base, newest


def encode_records(records):
    """The section, the base timestamp (the first record's) and the largest timestamp."""
    return _encode(records, False, b"", b"", ())


def encode_addressed(records, bytes prefix not None, bytes log not None, tuple more=()):
    """As `encode_records`, with two headers more on each record: where it lives, and in which log; then `more`."""
    return _encode(records, True, prefix, log, more)


# -- reading ---------------------------------------------------------------------------------------------------------


cdef struct Names:
    const uint8_t* text[NAMES_MAX]
    Py_ssize_t size[NAMES_MAX]
    int count


cdef const uint8_t* _read_varint(const uint8_t* at, const uint8_t* end, int64_t* value) except NULL:
    cdef uint64_t found = 0
    cdef int shift = 0
    cdef uint8_t byte
    while at < end:
        byte = at[0]
        at += 1
        if shift == 63 and byte > 1:
            break
        found |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = <int64_t>(found >> 1) ^ -<int64_t>(found & 1)
            return at
        shift += 7
    raise Corrupt("a varint in the records is too long or cut short")


cdef inline const uint8_t* _read_int32(const uint8_t* at, const uint8_t* end, int64_t* value) except NULL:
    if at < end and at[0] < 0x80:  # one byte: the common case
        value[0] = <int64_t>(at[0] >> 1) ^ -<int64_t>(at[0] & 1)
        return at + 1
    at = _read_varint(at, end, value)
    if not -2147483648 <= value[0] <= 2147483647:
        raise Corrupt(f"a 32-bit varint in the records is {value[0]}")
    return at


cdef inline const uint8_t* _read_size(const uint8_t* at, const uint8_t* end, int64_t* size) except NULL:
    """Of a blob: -1 is null, everything else lies before `end`."""
    at = _read_int32(at, end, size)
    if size[0] < -1:
        raise Corrupt(f"a length in the records is {size[0]}")
    if size[0] > end - at:
        raise Corrupt(f"{size[0]} bytes in the records reach past the record's end")
    return at


cdef inline object _blob(const uint8_t* at, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char*>at, size)


cdef object _name(const uint8_t* at, int64_t size, Names* names, list texts):
    cdef int index
    for index in range(names.count):
        if names.size[index] == size and memcmp(names.text[index], at, size) == 0:
            return texts[index]
    try:
        text = PyUnicode_DecodeUTF8(<const char*>at, size, NULL)
    except UnicodeDecodeError as error:
        raise Corrupt(f"a header's name is not UTF-8: {_blob(at, size)[:40]!r}") from error
    if names.count < NAMES_MAX:
        names.text[names.count] = at
        names.size[names.count] = size
        names.count += 1
        texts.append(text)
    return text


cdef object _headers(
    const uint8_t* at, const uint8_t* end, int64_t count, Names* names, list texts, const uint8_t** stop
):
    cdef int64_t size = 0
    cdef list headers = []
    cdef int64_t index
    for index in range(count):
        at = _read_size(at, end, &size)
        if size < 0:
            raise Corrupt("a header in the records has no name")
        name = _name(at, size, names, texts)
        at += size
        at = _read_size(at, end, &size)
        headers.append((name, _blob(at, size)))
        if size > 0:
            at += size
    stop[0] = at
    return tuple(headers)


cdef inline object _stored(object offset, object timestamp, object key, object value, object headers):
    """A StoredRecord, filled as `tuple.__new__` would, without the call."""
    cdef object record = hw_new_tuple(_STORED, 5)
    Py_INCREF(offset)
    PyTuple_SET_ITEM(record, 0, offset)
    Py_INCREF(timestamp)
    PyTuple_SET_ITEM(record, 1, timestamp)
    Py_INCREF(key)
    PyTuple_SET_ITEM(record, 2, key)
    Py_INCREF(value)
    PyTuple_SET_ITEM(record, 3, value)
    Py_INCREF(headers)
    PyTuple_SET_ITEM(record, 4, headers)
    return record


cdef object _decode(object section, object span, bint columns):
    """Both decoders: five lists, or one list of records."""
    cdef int64_t count, last_delta, base_offset, base_timestamp
    cdef int64_t size = 0, delta = 0, offset_delta = 0, timestamp = 0
    cdef int64_t key_size = 0, value_size = 0, header_count = 0, index
    cdef int64_t previous = -1
    cdef bint stamped
    cdef Py_buffer view
    cdef const uint8_t* at
    cdef const uint8_t* whole
    cdef const uint8_t* end
    cdef const uint8_t* key_at
    cdef const uint8_t* value_at
    cdef Names names
    cdef list texts = []
    cdef list records = []
    cdef list offsets = [], timestamps = [], keys = [], values = [], all_headers = []
    cdef object headers
    span_count, span_last, base_offset, base_timestamp, append_timestamp = span
    count, last_delta = span_count, span_last
    stamped = append_timestamp is not None
    if stamped:
        timestamp = append_timestamp
    names.count = 0
    PyObject_GetBuffer(section, &view, PyBUF_SIMPLE)
    try:
        at = <const uint8_t*>view.buf
        whole = at + view.len
        if not 0 <= count <= view.len // RECORD_MIN:
            raise Corrupt(f"{count} records cannot lie in {view.len} bytes")
        for index in range(count):
            at = _read_int32(at, whole, &size)
            if size < RECORD_MIN - 1 or size > whole - at:
                raise Corrupt(f"a record of {size} bytes with {whole - at} left")
            end = at + size
            at = _read_varint(at + 1, end, &delta)
            at = _read_int32(at, end, &offset_delta)
            if not previous < offset_delta <= last_delta:
                raise Corrupt(f"offset delta {offset_delta} after {previous} (last {last_delta})")
            previous = offset_delta
            at = _read_size(at, end, &key_size)
            key_at = at
            if key_size > 0:
                at += key_size
            at = _read_size(at, end, &value_size)
            value_at = at
            if value_size > 0:
                at += value_size
            at = _read_int32(at, end, &header_count)
            if header_count == 0:
                headers = ()
            elif 0 < header_count <= (end - at) // 2:  # two lengths each
                headers = _headers(at, end, header_count, &names, texts, &at)
            else:
                raise Corrupt(f"{header_count} headers in a record")
            if at != end:
                raise Corrupt(f"a record has {end - at} bytes too many")
            if not stamped and hw_add_overflows(base_timestamp, delta, &timestamp):
                raise Corrupt(f"a timestamp of {base_timestamp} and {delta} is out of range")
            if columns:
                offsets.append(base_offset + offset_delta)
                timestamps.append(timestamp)
                keys.append(_blob(key_at, key_size))
                values.append(_blob(value_at, value_size))
                all_headers.append(headers)
            else:
                records.append(
                    _stored(
                        base_offset + offset_delta,
                        timestamp,
                        _blob(key_at, key_size),
                        _blob(value_at, value_size),
                        headers,
                    )
                )
        if at != whole:
            raise Corrupt(f"{whole - at} bytes follow the last record")
    finally:
        PyBuffer_Release(&view)
    return (offsets, timestamps, keys, values, all_headers) if columns else records


def decode_columns(section, span):
    """Offsets, timestamps, keys, values and headers as five lists of equal length."""
    return _decode(section, span, True)


def decode_records(section, span):
    """The same, as records."""
    return _decode(section, span, False)
