# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `_plain_py.py`: same signature, same answers, under the same tests. The theory stands there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from ...core.errors import HeadwaterError
from ..mqtt.connection import State
from ..mqtt.packets import Version
from ._plain_py import LARGE_READ_BYTES

cdef extern from *:
    """
    #ifndef HW_SOURCE
    #define HW_SOURCE ""
    #endif
    """
    const char *HW_SOURCE

SOURCE = HW_SOURCE.decode()  # the hash of this file when it was built (core/leaves.py)


cdef class Way:
    cdef public object append, early, headers, headers_qos_0, key
    cdef public long long quiet


cdef class Lasting:
    cdef public object doubts, no_local


cdef Py_ssize_t _take(
    bytes data,
    Py_ssize_t packet_bytes_max,
    bint with_properties,
    dict known,
    long long generation,
    now_ms,
    list acks,
    offer,
    settle,
    client,
    list told,
    Py_ssize_t *taken,
) except -1:
    """The position of the first byte not taken. `offer` and `settle` None: those of `client`, looked up when they are needed."""
    cdef Py_ssize_t position = 0
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t length, start, end, topic_end, body
    cdef unsigned char first, byte
    cdef unsigned char puback[4]
    cdef PyObject *found
    cdef Way route
    cdef object offset
    cdef bytes topic, payload
    cdef bint quiet
    puback[0] = 0x40
    puback[1] = 0x02
    while position + 4 <= size:
        first = at[position]
        if first == 0x40:
            length = (<Py_ssize_t>at[position + 2] << 8) + at[position + 3]
            if at[position + 1] != 2 or length == 0 or packet_bytes_max < 4:
                break
            if settle is None:
                settle = client._session.outbound.settle
            if settle(length):
                break
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
        route = <Way?>(<object>found)
        quiet = route.quiet == generation
        if not quiet and route.early is not None:
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
        if not quiet:
            if offer is None:
                offer = client._offer
            offer(route, payload, 1 if first == 0x32 else 0, offset)
        taken[0] += 1
        position = end
    return position


def take_plain(
    bytes data not None,
    Py_ssize_t packet_bytes_max,
    bint with_properties,
    dict known not None,
    long long generation,
    now_ms,
    list acks not None,
    offer,
    settle,
    list told,
):
    cdef Py_ssize_t taken = 0
    position = _take(
        data,
        packet_bytes_max,
        with_properties,
        known,
        generation,
        now_ms,
        acks,
        offer,
        settle,
        None,
        told,
        &taken,
    )
    return position, taken


cdef class Counts:
    cdef public long long bytes_received, acknowledged
    cdef public list published

    def __init__(self):
        self.published = [0, 0, 0]


cdef class Held:
    cdef public long long commit, due
    cdef public list waiters, messages

    def __init__(self, long long commit):
        self.commit = commit
        self.waiters = []
        self.messages = []


def release_all(list waiters not None, long long commit):
    for waiter in waiters:
        if isinstance(waiter, Plain):
            (<Plain>waiter)._release(commit)
        else:
            waiter.release(commit)


cdef class OpenGate:
    cdef public Held open

    def begin(self):
        raise LookupError("no journal")


cdef class Changing:
    cdef public long long generation


cdef class Rounds:
    cdef public OpenGate gate
    cdef public Changing subscriptions
    cdef public Counts tally
    cdef public object now, paused
    cdef public long long round_ms

    def __init__(self, now):
        self.now = now

    def look_at_clock(self):
        return self.round_ms

    def received(self):
        pass


cdef object OPEN = State.OPEN
cdef object V5 = Version.V5
cdef Py_ssize_t LARGE = LARGE_READ_BYTES


cdef class Plain:
    cdef public Rounds _broker
    cdef public Lasting _session
    cdef public object _connection, _routes, transport, version, heard_at
    cdef public list _out, _acks, _older
    cdef public long long _commit, _out_bytes, _written
    cdef public Py_ssize_t receive_maximum, _held, _pubrecs
    cdef public int _paused
    cdef public bint receipts, in_rounds

    def __init__(self, Rounds broker not None, connection, Py_ssize_t receive_maximum):
        self._broker = broker
        self._connection = connection
        self.version = Version.V311
        self.receive_maximum = receive_maximum
        self.heard_at = broker.now
        self._out = []
        self._commit = -1
        self._acks = []
        self._older = []

    def data_received(self, bytes data not None):
        cdef Rounds broker = self._broker
        cdef Py_ssize_t position
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        self.heard_at = broker.now
        broker.tally.bytes_received += size
        try:
            position = 0 if broker.paused is not None else self._take_plain(data)
            if position < size or not size:
                self._take_rest(data[position:] if position else data)
        except Exception as error:
            self._failed(error)
        if not self.in_rounds or size > LARGE:
            broker.received()

    def _take_plain(self, bytes data not None):
        cdef Rounds broker = self._broker
        cdef Py_ssize_t position
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t held
        cdef list acks, published
        cdef Lasting session = self._session
        connection = self._connection
        if (
            session is None
            or self.receipts
            or session.no_local
            or connection.state is not OPEN
            or connection.partial is not None
        ):
            return 0
        doubts = session.doubts
        if doubts is not None and doubts.carries:
            return 0
        acks = []
        position = _take(
            data,
            connection.packet_bytes_max,
            self.version is V5,
            self._routes.young,
            broker.subscriptions.generation,
            broker.round_ms or broker.look_at_clock(),
            acks,
            None,
            None,
            self,
            None if doubts is None else doubts.fresh,
            &taken,
        )
        if taken:
            held = len(acks)
            published = broker.tally.published
            published[1] += held
            if taken > held:
                published[0] += taken - held
            if held:
                if doubts is not None:
                    self._published()
                self._keep(acks)
        return position

    def _hold(self, list acks not None):
        if acks:
            self._keep(acks)

    cdef int _keep(self, list acks) except -1:
        cdef OpenGate gate = self._broker.gate
        cdef Held held = gate.open
        if held is None:
            held = gate.begin()
        if self._commit == held.commit:
            self._acks += acks
        else:
            if self._acks:
                self._older.append((self._commit, self._acks))
            self._acks = acks
            self._commit = held.commit
            held.waiters.append(self)
        self._held += len(acks)
        if self._held >= self.receive_maximum:
            self._filled()
        return 0

    def release(self, long long commit):
        self._release(commit)

    cdef int _release(self, long long commit) except -1:
        cdef list acks = self._acks
        cdef Py_ssize_t count
        cdef bytes data
        if self._commit > commit:
            acks = []
        else:
            self._acks = []
            self._commit = -1
        if self._older:
            acks = self._pop_older(commit) + acks
        count = len(acks)
        self._held -= count
        if self._pubrecs:
            self._pubrecs -= sum([ack[0] == 0x50 for ack in acks])
        if self.transport is None or not count:
            return 0
        self._broker.tally.acknowledged += count
        data = acks[0] if count == 1 else b"".join(acks)
        if self._out:
            self.send(data)
        else:
            self._written += PyBytes_GET_SIZE(data)
            self.transport.write(data)
        if self._session is not None:
            doubts = self._session.doubts
            if doubts is not None:
                doubts.written(commit, self._written + self._out_bytes)
        if self._paused:
            self._emptied()
        return 0

    # --- what does not happen with every packet ---------------------------------------------------------------

    def send(self, data):
        pass

    def _take_rest(self, data):
        pass

    def _failed(self, error):
        pass

    def _offer(self, route, payload, qos, offset):
        pass

    def _published(self):
        pass

    def _filled(self):
        pass

    def _emptied(self):
        pass

    def _pop_older(self, commit):
        return []
