"""A web server on loopback whose end is the end of its connections and threads too."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: How often a server looks whether it shall end; by default twice a second, for which hundreds of
#: tests would wait.
POLL_SECONDS = 0.01


class _Server(ThreadingHTTPServer):
    """Clients keep connections for later. A thread that waits at one when Python ends is ended
    by force in the midst of it, which has crashed the process."""

    daemon_threads = False  # those are not joined

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def server_close(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):  # its client has closed it
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle of a body is what many tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run `handler` on a free port until the block ends; yields the url without a slash."""
    server = _Server(handler)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
