"""How gunicorn serves the backend: ``gunicorn --config python:ml_backend.http_server …``.

The lower-case names are gunicorn's settings. Its own worker hands a connection to a thread at once,
and a client that sends its request byte by byte, or leaves it unfinished, keeps that thread for as
long as it likes: as many such clients as there are threads, and nobody else gets an answer. Here a
connection waits among all others, without a thread, until its request has come as far as the end
of the headers; after the answer, it waits there again until the client has hung up.

References
----------
https://gunicorn.org/reference/settings/. What is overridden is that of gunicorn 27.
"""

import socket
import time
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final

from gunicorn.http.message import Request  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

WAIT_S: Final = 5.0
"""How long the headers may take to come, or a client to hang up."""
IDLE_S: Final = 30.0
"""How long a client may say nothing in the middle of a body, or take to read an answer."""
MAX_HEADER_BYTES: Final = 2**16
"""As much is looked at; gunicorn refuses what is longer."""
MAX_LEFT_BYTES: Final = 2**20
"""As much of a body that nobody read is taken off the line, for the client to hear why."""


class HttpWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker whose threads are only taken by whole requests."""

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection, and let it wait for the headers of its request."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        connection = TConn(self.cfg, client, address, listener.getsockname())
        connection.seen = 0
        self._wait(connection, self.on_pending_socket_readable)

    def on_pending_socket_readable(self, connection: TConn, client: socket.socket) -> None:
        """Give a connection to a thread once its headers are there, or no more will come."""
        try:
            begun = client.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
        except OSError:
            begun = b""
        more = connection.seen < len(begun) < MAX_HEADER_BYTES
        if more and b"\r\n\r\n" not in begun:
            connection.seen = len(begun)
            # Not told again before there is more.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(begun) + 1)
            return
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        super().on_pending_socket_readable(connection, client)

    def handle_request(self, request: Request, connection: TConn) -> bool:
        """Answer a request, unless the client stops in the middle."""
        connection.sock.settimeout(IDLE_S)
        return bool(super().handle_request(request, connection))

    def finish_request(self, connection: TConn, done: Any) -> None:  # noqa: ANN401
        """Let a connection that was answered wait for the client to hang up."""
        try:
            connection.sock.setblocking(False)
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        connection.left = 0
        self._wait(connection, self._hung_up)

    def _hung_up(self, connection: TConn, client: socket.socket) -> None:
        try:
            left = len(client.recv(2**16))
        except BlockingIOError:
            return
        except OSError:
            left = 0
        connection.left += left
        if not left or connection.left > MAX_LEFT_BYTES:
            self.poller.unregister(client)
            self.pending_conns.remove(connection)
            self._drop(connection)

    def _wait(self, connection: TConn, until: Any) -> None:  # noqa: ANN401
        """Call `until` when a connection has something to read; close it when that takes long."""
        connection.timeout = time.monotonic() + WAIT_S
        self.pending_conns.append(connection)
        self.poller.register(connection.sock, EVENT_READ, partial(until, connection))

    def _drop(self, connection: TConn) -> None:
        self.nr_conns -= 1
        connection.close()


worker_class = HttpWorker
threads = 8
# Every request has a connection of its own: see above.
keepalive = 0
# Of the process, not of a request: it is ended when it has not said for so long that it lives.
timeout = 120
graceful_timeout = 5
worker_connections = 1000
# Nobody needs to steer it from outside.
control_socket_disable = True
loglevel = "warning"
