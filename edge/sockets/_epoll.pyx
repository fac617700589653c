# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `_epoll_py.py`: same classes, same answers, under the same tests. The theory stands there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno

import os

from ._epoll_py import EVENTS_MAX, PAUSE_S, READ_BYTES_MIN, RECV_BYTES, ROUND_BYTES, SHARE
from .lingering import Lingering, forget_unsent

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum: EPOLL_CLOEXEC
    enum: EPOLL_CTL_ADD
    enum: EPOLL_CTL_MOD
    enum: EPOLL_CTL_DEL
    enum: EPOLLIN
    enum: EPOLLOUT
    enum: EPOLLERR
    enum: EPOLLHUP

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds)

cdef extern from "sys/socket.h" nogil:
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef enum:
    RECV = 65536
    READ_MIN = 4096
    ROUND = 1048576
    EVENTS = 256
    PAUSE_US = 50

assert PAUSE_US == round(PAUSE_S * 1e6)
assert RECV == RECV_BYTES and EVENTS == EVENTS_MAX and READ_MIN == READ_BYTES_MIN and ROUND == ROUND_BYTES

COMPILED = True


cdef class Sockets:
    cdef object _loop
    cdef object _on_round
    cdef int _epoll
    cdef dict _connections
    cdef bytearray _buffer_object
    cdef char *_buffer
    cdef public Py_ssize_t read_bytes
    cdef public Py_ssize_t share
    cdef Py_ssize_t _limit
    cdef readonly Py_ssize_t unsent
    cdef readonly Py_ssize_t laden
    cdef readonly object lingering
    cdef object _patient
    cdef int _heard

    def __cinit__(self):
        self._epoll = -1

    def __init__(self, loop, on_round=None, patient=None):
        self._loop = loop
        self._patient = patient
        self._on_round = on_round
        self._connections = {}
        self._buffer_object = bytearray(RECV)
        self._buffer = self._buffer_object
        self.read_bytes = RECV
        self.share = SHARE
        self.lingering = Lingering(loop)
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            raise OSError(errno, os.strerror(errno))
        loop.add_reader(self._epoll, self._round)

    def __dealloc__(self):
        if self._epoll >= 0:
            os.close(self._epoll)

    def __len__(self):
        return len(self._connections)

    def adopt(self, sock, protocol, *, write_buffer_max):
        cdef Connection connection
        cdef epoll_event event
        sock.setblocking(False)
        connection = Connection(self, sock, protocol, write_buffer_max)
        event.events = EPOLLIN
        event.data.fd = connection._fd
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, connection._fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        self._connections[connection._fd] = connection
        return connection

    def close(self):
        for connection in tuple(self._connections.values()):
            connection.abort()
        self.lingering.close()
        if self._epoll >= 0:
            self._loop.remove_reader(self._epoll)
            os.close(self._epoll)
            self._epoll = -1

    def _round(self):
        cdef epoll_event events[EVENTS]
        cdef int count, index
        cdef object found
        if self._heard > 1 and self._patient is not None and self._patient():
            with nogil:
                usleep(PAUSE_US)
        count = epoll_wait(self._epoll, events, EVENTS, 0)
        if count < 0:
            if errno == EINTR:
                return
            raise OSError(errno, os.strerror(errno))
        self._heard = count
        self._limit = min(self.read_bytes, max(READ_MIN, ROUND // max(count, 1)))
        for index in range(count):
            found = self._connections.get(events[index].data.fd)
            if found is not None:  # else it was closed within this round
                (<Connection>found).handle(events[index].events)
        if self._on_round is not None:
            self._on_round()

    cdef int _watch(self, int fd, unsigned int wanted) except -1:
        cdef epoll_event event
        event.events = wanted
        event.data.fd = fd
        if epoll_ctl(self._epoll, EPOLL_CTL_MOD, fd, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0

    cdef int _drop(self, int fd) except -1:
        cdef epoll_event event
        del self._connections[fd]
        epoll_ctl(self._epoll, EPOLL_CTL_DEL, fd, &event)
        return 0


cdef class Connection:
    cdef Sockets _owner
    cdef object _socket
    cdef object _protocol
    cdef bytearray _unsent
    cdef Py_ssize_t _high
    cdef int _fd
    cdef unsigned int _events
    cdef bint _reading
    cdef bint _closing
    cdef bint _full
    cdef public object ending

    def __init__(self, Sockets owner not None, sock, protocol, Py_ssize_t high):
        self._owner = owner
        self._socket = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._high = high
        self._events = EPOLLIN
        self._reading = True

    # --- asyncio.Transport ------------------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        sock = self._socket
        if sock is None:
            return default
        if name == "socket":
            return sock
        try:
            if name == "peername":
                return sock.getpeername()
            if name == "sockname":
                return sock.getsockname()
        except OSError:
            pass
        return default

    def is_closing(self):
        return self._closing or self._socket is None

    def get_write_buffer_size(self):
        return 0 if self._unsent is None else len(self._unsent)

    def write(self, bytes data not None):
        cdef Py_ssize_t sent
        if self._socket is None or self._closing:
            return
        if self._unsent is not None:
            self._unsent += data
            self._owner.unsent += PyBytes_GET_SIZE(data)
        else:
            sent = self._send(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if sent < 0 or sent == PyBytes_GET_SIZE(data):
                return
            self._unsent = bytearray(data[sent:])
            self._owner.unsent += PyBytes_GET_SIZE(data) - sent
            self._owner.laden += 1
            self._watch()
        if not self._full and len(self._unsent) > min(self._high, self._owner.share // self._owner.laden):
            self._full = True
            self._protocol.pause_writing()

    def pause_reading(self):
        self._reading = False
        self._watch()

    def resume_reading(self):
        self._reading = True
        self._watch()

    def linger(self):
        if self._socket is not None and not self._closing and self._unsent is None:
            self._owner.lingering.take(self._socket)

    def close(self):
        if self._socket is None or self._closing:
            return
        self._closing = True
        if self._unsent is not None:
            self._watch()
        else:
            self._end(None)

    def abort(self):
        self._end(None)

    def reset(self):
        if self._socket is not None:
            forget_unsent(self._socket)
        self._end(None)

    # --- events -----------------------------------------------------------------------------------------------

    cdef int handle(self, unsigned int events) except -1:
        if events & EPOLLOUT and self._unsent is not None:
            self._flush()
        if self._socket is None:
            return 0
        if self._reading and not self._closing:
            if events & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self._read()
        elif events & (EPOLLERR | EPOLLHUP):
            self._end(None)  # nothing can be sent any more, and nothing is wanted
        return 0

    cdef int _read(self) except -1:
        cdef char *buffer = self._owner._buffer
        cdef ssize_t size = c_recv(self._fd, buffer, min(RECV, self._owner._limit), MSG_DONTWAIT)
        cdef int error
        if size > 0:
            self._protocol.data_received(PyBytes_FromStringAndSize(buffer, size))
        elif size == 0:
            if not self._protocol.eof_received():
                self.close()
        else:
            error = errno
            if error != EAGAIN and error != EINTR:
                self._end(OSError(error, os.strerror(error)))
        return 0

    cdef Py_ssize_t _send(self, const char *data, Py_ssize_t size) except -2:
        cdef ssize_t sent = c_send(self._fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        cdef int error
        if sent >= 0:
            return sent
        error = errno
        if error == EAGAIN or error == EINTR:
            return 0
        self._end(OSError(error, os.strerror(error)))
        return -1

    cdef int _flush(self) except -1:
        cdef Py_ssize_t sent = self._send(<char *>self._unsent, len(self._unsent))
        cdef Py_ssize_t high
        if sent < 0:
            return 0
        self._owner.unsent -= sent
        high = min(self._high, self._owner.share // self._owner.laden)
        if sent == len(self._unsent):
            self._unsent = None
            self._owner.laden -= 1
            if self._closing:
                self._end(None)
                return 0
            self._watch()
        else:
            del self._unsent[:sent]
        if self._full and (self._unsent is None or len(self._unsent) <= high // 4):
            self._full = False
            self._protocol.resume_writing()
        return 0

    cdef int _watch(self) except -1:
        cdef unsigned int events = 0
        if self._socket is None:
            return 0
        if self._reading and not self._closing:
            events |= EPOLLIN
        if self._unsent is not None:
            events |= EPOLLOUT
        if events != self._events:
            self._events = events
            self._owner._watch(self._fd, events)
        return 0

    cdef int _end(self, error) except -1:
        sock = self._socket
        if sock is None:
            return 0
        if self.ending is not None:
            self.ending()
        self._socket = None
        self._owner._drop(self._fd)
        if self._unsent is not None:
            self._owner.unsent -= len(self._unsent)
            self._owner.laden -= 1
            self._unsent = None
        sock.close()
        self._owner._loop.call_soon(self._protocol.connection_lost, error)
        return 0
