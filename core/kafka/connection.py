"""One connection to one broker: requests out in the order of the calls, answers matched by correlation id.

The asyncio rim, as a `Protocol`: no task of its own, so nothing to supervise. A request is written before its call first
waits; whoever calls `submit` in order has sent in order, and may have as many in flight as the limit allows.

What a failure says about the request:
  Refused      never sent: the broker lacks the API or version, or the message cannot be encoded
  Unavailable  never sent: there is no connection, or too many answers are outstanding already
  Unknown      sent, and the connection ended (or the time ran out, or the answer made no sense) before it was answered
After an Unknown the connection is closed: a late answer would be one that nobody can place. Nothing is retried here.

`Dialer` is the seam for TLS and tests, `Authenticator` that for SASL: security.py has both. It knows nothing of
topics and leaders: see client.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, Self, TypeVar, cast

from ..errors import Closed, HeadwaterError, Refused, Unavailable, Unknown
from . import frames
from .errors import ErrorCode
from .messages import ApiVersionsRequest, ApiVersionsResponse, ProduceRequest, ProduceResponse
from .messages.sasl_authenticate import SaslAuthenticateRequest
from .messages.sasl_handshake import SaslHandshakeRequest
from .reaching import reach
from .sasl import Mechanism
from .schema import Message, Request
from .settings import ClientSettings
from .wire import WireCount, wire_count

R = TypeVar("R", bound=Message)

_SOFTWARE = "headwater"
_SOFTWARE_VERSION = "0.1.0"
_INTERCEPTED = "what answers speaks HTTP, not Kafka: a captive portal or a proxy stands between"
_CORRELATION_MODULUS = 2**31


class Dialer(Protocol):
    """Makes a connection and hands it to the protocol that `factory` returns; raises OSError."""

    async def __call__(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> object: ...


class Authenticator(Protocol):
    """Who we are, for brokers that ask (SASL)."""

    async def mechanism(self) -> Mechanism:
        """A fresh one for each connection. Raises Unavailable where its secret cannot be had."""


class Intercepted(Unavailable):
    """What answers is not a broker but HTTP: a captive portal or a proxy stands between."""


async def dial_tcp(
    factory: Callable[[], asyncio.Protocol], host: str, port: int
) -> asyncio.Transport:
    """Plain TCP."""
    sock = await reach(host, port)
    return (await asyncio.get_running_loop().create_connection(factory, sock=sock))[0]


class _Pending(NamedTuple):
    request: type[Request[Message]]
    version: int
    answer: asyncio.Future[Message]
    timer: asyncio.TimerHandle


class KafkaConnection(asyncio.Protocol):
    """Made by `dial`. `versions` is what the broker said it speaks: API key to (oldest, newest)."""

    def __init__(self, peer: str, *, client_id: str, settings: ClientSettings) -> None:
        self.peer = peer
        self.versions: Mapping[int, tuple[int, int]] = {}
        self._client_id = client_id
        self._settings = settings
        self._reader = frames.FrameReader(int(settings.response_bytes_max))
        self._transport: asyncio.Transport | None = None
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0
        self._ended: HeadwaterError | None = None
        self._written = self._read = 0
        self._intercepted = False
        self._wire = WireCount()
        self._gone = asyncio.get_running_loop().create_future()

    @classmethod
    async def dial(
        cls,
        host: str,
        port: int,
        *,
        client_id: str,
        settings: ClientSettings | None = None,
        dialer: Dialer = dial_tcp,
        authenticator: Authenticator | None = None,
    ) -> Self:
        """Connected, its versions known, and ourselves known to it. Raises Unavailable (Intercepted where HTTP answers);
        Refused where the peer does not speak Kafka, or does not let us in."""
        settings = settings or ClientSettings()
        connection = cls(f"{host}:{port}", client_id=client_id, settings=settings)
        try:
            async with asyncio.timeout(settings.connect_timeout):
                await dialer(lambda: connection, host, port)
                await connection._negotiate()
                if authenticator is not None:
                    await connection._authenticate(await authenticator.mechanism())
        except TimeoutError as error:
            connection._end(
                Unavailable(f"broker {host}:{port} did not answer in {settings.connect_timeout}")
            )
            raise Unavailable(
                f"broker {host}:{port} did not answer in {settings.connect_timeout}"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise Unavailable(f"cannot connect to broker {host}:{port}: {reason}") from error
        except Unknown as error:  # asking for versions changes nothing: it may be repeated
            if connection._intercepted:
                raise Intercepted(f"broker {host}:{port}: {_INTERCEPTED}") from error
            raise Unavailable(str(error)) from error
        except BaseException:
            connection._end(Closed(f"connection to broker {host}:{port} was not wanted any more"))
            raise
        return connection

    @property
    def is_open(self) -> bool:
        return self._ended is None and self._transport is not None

    @property
    def in_flight(self) -> int:
        """Requests that have no answer yet."""
        return len(self._pending)

    @property
    def peer_host(self) -> str:
        """The address at the other end, as a number; empty before there was one."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return str(peer[0]) if peer else ""

    def wire(self) -> WireCount:
        """What it cost so far; after its end what it had cost by then."""
        if self._ended is None and self._transport is not None:
            self._wire = wire_count(self._transport, written=self._written, read=self._read)
        return self._wire

    def version_of(self, request: type[Request[Message]]) -> int:
        """The newest version that both sides speak; raises Refused where there is none."""
        oldest, newest = request.VERSIONS
        theirs = self.versions.get(request.KEY)
        if theirs is None:
            raise Refused(f"broker {self.peer} does not offer {request.__name__}")
        version = min(newest, theirs[1])
        if version < max(oldest, theirs[0]):
            raise Refused(
                f"broker {self.peer} speaks {request.__name__} {theirs[0]} to {theirs[1]}, "
                f"Headwater {oldest} to {newest}"
            )
        return version

    async def request(self, message: Request[R], /, *, version: int | None = None) -> R:
        """Send and wait for the answer. Giving up waiting does not take the request back."""
        return await self.submit(message, version=version)

    def submit(
        self, message: Request[R], /, *, version: int | None = None, timeout_s: float | None = None
    ) -> asyncio.Future[R]:
        """Send now; the future brings the answer. Raises Refused and Unavailable, the future Unknown.

        Produce with acks = 0 has no answer: its future is done at once.
        """
        kind = type(message)
        if version is None:
            version = self.version_of(kind)
        transport = self._transport
        if self._ended is not None or transport is None or transport.is_closing():
            raise Unavailable(f"not connected to broker {self.peer}: {self._ended or 'closed'}")
        if len(self._pending) >= self._settings.requests_in_flight_max:
            raise Unavailable(f"broker {self.peer} owes {len(self._pending)} answers")
        number = self._next_id
        data = frames.encode_request(
            message, version, correlation_id=number, client_id=self._client_id
        )
        self._next_id = (number + 1) % _CORRELATION_MODULUS
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        if isinstance(message, ProduceRequest) and message.acks == 0:
            answer.set_result(ProduceResponse())
        else:
            timer = loop.call_later(
                self._settings.request_timeout if timeout_s is None else timeout_s,
                self._time_out,
                number,
            )
            self._pending[number] = _Pending(kind, version, answer, timer)
        self._written += len(data)
        transport.write(data)
        return cast("asyncio.Future[R]", answer)

    async def close(self) -> None:
        """End it; requests without an answer raise Unknown. Harmless when repeated."""
        self._end(Closed(f"connection to broker {self.peer} was closed"))
        if self._transport is not None:
            await asyncio.shield(self._gone)

    async def _negotiate(self) -> None:
        """Ask for the broker's versions, at the newest we know, then at the newest it knows."""
        _, version = ApiVersionsRequest.VERSIONS
        question = ApiVersionsRequest(
            client_software_name=_SOFTWARE, client_software_version=_SOFTWARE_VERSION
        )
        answer = await self.request(question, version=version)
        if answer.error_code == ErrorCode.UNSUPPORTED_VERSION:
            theirs = {api.api_key: api.max_version for api in answer.api_keys}
            version = min(version - 1, theirs.get(ApiVersionsRequest.KEY, 0))
            answer = await self.request(question, version=version)
        if answer.error_code:
            name = ErrorCode.of(answer.error_code).name
            raise Refused(f"broker {self.peer} answers ApiVersions with {name}")
        self.versions = {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}

    async def _authenticate(self, mechanism: Mechanism) -> None:
        """SaslHandshake, then tokens until both sides are content (KIP-152)."""
        offer = await self.request(SaslHandshakeRequest(mechanism=mechanism.name), version=1)
        if offer.error_code:
            offered = ", ".join(offer.mechanisms) or "none"
            raise Refused(f"broker {self.peer} does not take SASL {mechanism.name}, but {offered}")
        version = min(self.version_of(SaslAuthenticateRequest), 2)
        token: bytes | None = mechanism.first()
        while token is not None:
            answer = await self.request(SaslAuthenticateRequest(auth_bytes=token), version=version)
            if answer.error_code:
                name = ErrorCode.of(answer.error_code).name
                said = f": {answer.error_message}" if answer.error_message else ""
                raise Refused(f"broker {self.peer} does not let us in: {name}{said}")
            # hashing a password thousands of times takes a while, on purpose
            token = await asyncio.to_thread(mechanism.next, answer.auth_bytes)
        if not mechanism.is_proven:
            raise Refused(f"broker {self.peer} did not prove that it knows the password")

    # -- called by the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._ended is not None:  # closed while it was being dialled
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._ended is not None:
            return
        if not self._read and data.startswith(b"HTTP/"):
            self._intercepted = True
            self._end(Unknown(f"broker {self.peer}: {_INTERCEPTED}"))
            return
        self._read += len(data)
        try:
            for frame in self._reader.receive(data):
                self._receive(frame)
        except Refused as error:
            self._end(Unknown(f"broker {self.peer} sent what cannot be read: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        reason = f": {error}" if error else ""
        self._end(Unknown(f"broker {self.peer} closed the connection{reason}"))

    def _receive(self, frame: bytes) -> None:
        number = frames.correlation_id(frame)
        pending = self._pending.get(number)
        if pending is None:
            raise Refused(f"an answer to request {number}, which is not outstanding")
        answer = _decode(pending.request, pending.version, frame)
        del self._pending[number]
        pending.timer.cancel()
        if not pending.answer.done():  # it is when nobody waits any more
            pending.answer.set_result(answer)

    def _time_out(self, number: int) -> None:
        name = self._pending[number].request.__name__
        self._end(Unknown(f"broker {self.peer} gave no answer to {name} in time"))

    def _end(self, reason: HeadwaterError) -> None:
        """The end of this connection, once. What is outstanding has been sent, so its fate is unknown."""
        if self._ended is not None:
            return
        # what was not sent by now never will be
        self._wire = self.wire()._replace(unacked=0, unsent=0)
        self._ended = reason
        if self._transport is not None:
            self._transport.abort()
        pending, self._pending = self._pending, {}
        for item in pending.values():
            item.timer.cancel()
            if not item.answer.done():
                item.answer.set_exception(Unknown(f"{item.request.__name__}: {reason}"))
                item.answer.exception()  # whoever gave up waiting is not to be told of it by the loop


def _decode(request: type[Request[Message]], version: int, frame: bytes) -> Message:
    """The answer; to ApiVersions at too new a version brokers answer as if version 0 had been asked.

    Or they mean to: librdkafka's mock gets the list that follows the error wrong. The error alone says enough.
    """
    if request is ApiVersionsRequest:
        position = frames.response_position(request, version, frame)
        code = int.from_bytes(frame[position : position + 2], signed=True)
        if code == ErrorCode.UNSUPPORTED_VERSION:
            try:
                return ApiVersionsResponse.decode(frame, 0, position=position)
            except Refused:
                return ApiVersionsResponse(error_code=code)
    return frames.decode_response(request, version, frame)
