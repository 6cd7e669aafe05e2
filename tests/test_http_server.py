"""The web server of the tests leaves nothing behind."""

import socket
import threading

from tests.storage.servers import web_server

ASK = b"GET /ok/1 HTTP/1.1\r\nHost: here\r\n\r\n"


def test_a_connection_kept_for_later_ends_with_its_server() -> None:
    before = set(threading.enumerate())
    with web_server() as url:
        client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        client.sendall(ASK)
        assert client.recv(12) == b"HTTP/1.1 200"
        assert len(set(threading.enumerate()) - before) == 2
    assert set(threading.enumerate()) <= before
    with client:
        while client.recv(65536):
            pass
