"""Where clients come in: listeners, their limits, TLS, WebSocket. The broker sees a `Client` and nothing of this.

socket ──▶ Acceptor ──▶ Door (limits, before a byte is read) ──▶ opening.py ─┬─ plain ──────▶ edge/sockets, one epoll
                                                                            └─ TLS and/or WebSocket ──▶ asyncio

settings.py    a listener's settings, and which of them are nonsense together
door.py        who may come in: connections, per address, per second; what is known of a visitor
rates.py       publish rates: a client that is too fast is not read for a while
opening.py     the one place where transports are made
tls.py         certificates, reloaded for new handshakes; whose certificate it is
upgrade.py     the HTTP/1.1 request that becomes a WebSocket: bytes in, an answer out
frames.py      WebSocket frames: bytes in, payload and answers out
websocket.py   a client behind a WebSocket
"""
