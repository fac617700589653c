# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `_opencommit_py.py`: same classes, same answers, under the same tests. The theory stands there."""

from cpython.bytes cimport PyBytes_GET_SIZE

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)

cdef enum:
    RECORD = 48
    HEADER = 10


cdef class OpenCommit:
    cdef public list dirty
    cdef public object refusing
    cdef public Py_ssize_t record_bytes_max, bytes, records

    def __init__(self, Py_ssize_t record_bytes_max):
        self.record_bytes_max = record_bytes_max
        self.dirty = []


cdef class Appending:
    cdef public OpenCommit _intake
    cdef public list _records
    cdef public long long next_offset

    def __init__(self, OpenCommit intake not None, long long next_offset):
        self.next_offset = next_offset
        self._intake = intake
        self._records = []

    def append(self, timestamp, bytes key, bytes value, headers=()):
        cdef Py_ssize_t size = RECORD
        cdef Py_ssize_t length
        cdef OpenCommit intake = self._intake
        cdef list records
        cdef long long offset
        if value is not None:
            size += PyBytes_GET_SIZE(value)
        if key is not None:
            size += PyBytes_GET_SIZE(key)
        if headers:
            for name, content in headers:
                PyUnicode_AsUTF8AndSize(name, &length)
                size += length + (0 if content is None else len(content)) + HEADER
        if size > intake.record_bytes_max or intake.refusing is not None:
            self._check(size)
        records = self._records
        if not records:
            intake.dirty.append(self)
        records.append((timestamp, key, value, headers))
        intake.bytes += size
        intake.records += 1
        offset = self.next_offset
        self.next_offset = offset + 1
        return offset

    def _check(self, size):
        pass
