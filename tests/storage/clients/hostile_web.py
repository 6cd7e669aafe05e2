"""Web servers that mean harm: they write bytes of their own choice, for as long as asked."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket, threading.Event], None]


@contextmanager
def speaking(
    script: Script, wrap: Callable[[socket.socket], socket.socket] | None = None
) -> Iterator[int]:
    """A port of loopback that runs `script` on each connection until the block ends."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def serve(peer: socket.socket) -> None:
        with suppress(OSError), wrap(peer) if wrap else peer as connection:
            connection.recv(65536)
            script(connection, ended)

    def listen() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                peer, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(peer,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=listen, daemon=True)
        accepting.start()
        yield listener.getsockname()[1]
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
    for thread in [accepting, *threads]:
        thread.join()


def saying(data: bytes) -> Script:
    """One answer, then the end."""

    def script(peer: socket.socket, ended: threading.Event) -> None:
        peer.sendall(data)

    return script


def trickling(start: bytes, drip: bytes, every: float = 0.2) -> Script:
    """`start`, then `drip` again and again."""

    def script(peer: socket.socket, ended: threading.Event) -> None:
        peer.sendall(start)
        while not ended.wait(every):
            peer.sendall(drip)

    return script
