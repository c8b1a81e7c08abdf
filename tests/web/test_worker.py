"""The gunicorn worker: what it does with connections, without a server."""

import logging
import socket
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("gunicorn", reason="pip install -r requirements/web.txt")

from gunicorn.config import Config

from web.worker import GRACE_SECONDS, LEAST_BYTES_A_SECOND, LONGEST_SECONDS, LimitedConnection, UploadWorker


@pytest.fixture
def connection():
    """A connection of the server, and the client's end of it."""
    served, client = socket.socketpair()
    found = LimitedConnection(Config(), served, ("127.0.0.1", 1), ("127.0.0.1", 2))
    yield found, client
    client.close()
    found.sock.close()


def test_a_request_must_arrive_in_time_and_a_long_body_gets_more(connection):
    served, client = connection
    start = served.started
    assert not served.is_too_slow(start + GRACE_SECONDS - 1)
    assert served.is_too_slow(start + GRACE_SECONDS + 1)  # no TLS handshake, no header
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    served.init()
    assert next(served.parser).path == "/"
    assert not served.is_too_slow(start + GRACE_SECONDS + 1)  # it is being answered
    assert served.is_too_slow(start + LONGEST_SECONDS + 1)
    served.is_reading, served.received = True, 100 * LEAST_BYTES_A_SECOND
    assert not served.is_too_slow(start + 100 + GRACE_SECONDS - 1)
    assert served.is_too_slow(start + 100 + GRACE_SECONDS + 1)


def test_disconnecting_ends_a_thread_that_waits_for_data(connection):
    served, client = connection
    client.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
    served.init()
    failed = threading.Event()

    def wait():
        try:
            next(served.parser)
        except OSError:  # gunicorn's NoMoreData
            failed.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not served.is_reading:
        time.sleep(0.01)
    served.disconnect()
    thread.join(5)
    assert failed.is_set()


def test_the_main_thread_never_waits_for_a_closing_connection(connection):
    """gunicorn would wait two seconds in its main thread for each client that keeps its end open."""
    served, client = connection
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    worker = UploadWorker(1, 0, [], None, 30, Config(), logging.getLogger())
    worker.nr_conns = 1
    worker.handle_request = lambda req, conn: False  # answered; must be closed
    served.data_ready = True
    kept = UploadWorker.handle(worker, served)
    assert kept is False and worker._handled == set()
    started = time.monotonic()
    worker.finish_request(served, SimpleNamespace(cancelled=lambda: False, result=lambda: kept))
    assert time.monotonic() - started < 0.2
    assert worker.nr_conns == 0


def test_a_slow_connection_is_ended_and_a_fast_one_is_not(connection):
    served, client = connection
    worker = UploadWorker(1, 0, [], None, 30, Config(), logging.getLogger())
    worker._handled.add(served)
    worker.notify()
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    served.started -= GRACE_SECONDS + 1
    worker.notify()
    assert client.recv(1) == b""
