"""The gunicorn worker of the page: slow connections hold neither its threads nor its main thread.

gunicorn's own threaded worker waits for a request without a limit of time, and closes connections in its main
thread, up to two seconds each; meanwhile it answers nobody, and gunicorn kills it. A proxy that buffers whole
requests protects better; this worker makes a few bad connections harmless without one.
"""

import contextlib
import errno
import os
import selectors
import signal
import socket
import time
from concurrent.futures import Future
from functools import partial

from gunicorn import util
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

GRACE_SECONDS = 10
"""Time for the TLS handshake and for the header of a request, and extra time for its body."""

LEAST_BYTES_A_SECOND = 16 * 2**10
"""A body may take `GRACE_SECONDS` and one second more for so many bytes, as with Apache's mod_reqtimeout."""

LONGEST_SECONDS = 300
"""A connection is ended when its request and response together take longer, e.g. because nobody reads."""

LINGER_SECONDS = 0.5
"""How long a thread waits for the other side before it closes a connection."""


class LimitedConnection(TConn):
    """A connection that knows until when its request must have arrived.

    Attributes:
        is_reading: whether a thread waits for data.
        received: bytes of the current request.
        started: when the current request began.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.begin()

    def begin(self) -> None:
        """A new request begins."""
        self.started, self.received, self.is_reading = time.monotonic(), 0, not self.initialized

    def init(self) -> None:
        """As gunicorn, including the TLS handshake; then count what is received."""
        if self.initialized:
            return
        super().init()
        self.is_reading = False
        if type(self.parser.unreader) is SocketUnreader:
            self.parser.unreader = _CountingUnreader(self)

    def is_too_slow(self, now: float) -> bool:
        """Whether the request or its response has taken too long."""
        limit = GRACE_SECONDS + self.received / LEAST_BYTES_A_SECOND if self.is_reading else LONGEST_SECONDS
        return now - self.started > min(limit, LONGEST_SECONDS)

    def disconnect(self) -> None:
        """End the connection from another thread: the thread that waits for data receives the end of data."""
        with contextlib.suppress(OSError):
            # Not self.sock.shutdown: that of TLS changes the socket.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _CountingUnreader(SocketUnreader):
    def __init__(self, connection: LimitedConnection) -> None:
        super().__init__(connection.sock)
        self._connection = connection

    def chunk(self, size_hint: int | None = None) -> bytes:
        connection = self._connection
        connection.is_reading = True
        try:
            data = super().chunk(size_hint)
        finally:
            connection.is_reading = False
        connection.received += len(data)
        return data


class UploadWorker(ThreadWorker):
    """gunicorn's threaded worker with limits of time; see the module."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        self._handled: set[LimitedConnection] = set()

    def handle_quit(self, sig: int, frame: object) -> None:
        """As gunicorn, with a message; a second signal is ignored, since it would end `worker_exit`."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: None)  # SIG_IGN prints an error for a pending signal
        seconds = self.cfg.graceful_timeout
        os.write(2, f"\nStopping: ends the analysis, deletes all images; at most {seconds} s\n".encode())
        super().handle_quit(sig, frame)

    def accept(self, listener: socket.socket) -> None:
        """Wait for the first byte without a thread."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK}:
                return
            raise
        self.nr_conns += 1
        connection = LimitedConnection(self.cfg, accepted, address, listener.getsockname())
        connection.timeout = time.monotonic() + GRACE_SECONDS
        self.pending_conns.append(connection)
        readable = partial(self.on_pending_socket_readable, connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, readable)

    def handle(self, conn: LimitedConnection) -> object:
        """Handle a request in a thread, which also closes the connection."""
        conn.begin()
        self._handled.add(conn)
        try:
            kept = super().handle(conn)
        finally:
            self._handled.discard(conn)
        if not kept:
            with contextlib.suppress(OSError):
                conn.sock.setblocking(True)
                util.close_graceful(conn.sock, LINGER_SECONDS)
            conn.sock.close()
        return kept

    def finish_request(self, conn: LimitedConnection, fs: Future) -> None:
        """Called in the main thread, which must not wait."""
        if conn.sock.fileno() < 0:  # `handle` has closed it
            self.nr_conns -= 1
        else:
            super().finish_request(conn, fs)

    def notify(self) -> None:
        """Called in the main thread at least once a second."""
        super().notify()
        now = time.monotonic()
        for connection in tuple(self._handled):
            if connection.is_too_slow(now):
                connection.disconnect()
