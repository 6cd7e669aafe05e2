"""Run in a network of its own: a name server that does not answer in time, and a real resolver.

    unshare --map-root-user --net --mount python -m tests.storage.clients.slow_names DIR

The C library takes its name server from /etc/resolv.conf alone, so a file of ours is laid over
it, in this process's view of the disk. Names of `slow.test` are never answered; others are on
loopback. Prints a line of JSON: what came of each object, and how long it all took.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from pipeline.storage import Rules, Want, read_many
from tests.storage.servers import web_server

#: What a dead server costs the C library, in seconds; longer than any reader here may wait.
DEAD_SECONDS = 12


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    options = f"options timeout:{DEAD_SECONDS} attempts:1"
    _lay(folder, "resolv.conf", f"nameserver 127.0.0.1\n{options}\n")
    _lay(folder, "nsswitch.conf", "hosts: files dns\n")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    with web_server({"/a.jpg": b"jpeg"}) as url:
        port = url.rpartition(":")[2]
        print(json.dumps(_read(port)), flush=True)


def _read(port: str) -> dict[str, object]:
    """Nine dead names of one domain, then a good one, and so on."""
    hosts = [f"h{n}.good.test" if n % 10 == 9 else f"h{n}.slow.test" for n in range(330)]
    wants = [Want(f"http://{host}:{port}/a.jpg") for host in hosts]
    began = time.monotonic()
    rules = Rules(allow_private=True, seconds=3.0)
    found = {}
    for index, outcome in read_many(wants, max_bytes=1000, rules=rules):
        read = isinstance(outcome, bytes)
        found[hosts[index]] = "read" if read else f"{outcome.code}: {outcome.message}"
    threads = sum(one.name.startswith("nightlabel-resolve") for one in threading.enumerate())
    took = time.monotonic() - began
    return {"found": found, "took": took, "threads": threads}


def _lay(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    subprocess.run(["mount", "--bind", folder / name, f"/etc/{name}"], check=True)


def _serve(server: socket.socket) -> None:
    while True:
        query, sender = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5  # the name, its type and class
        name, kind = query[12 : end - 4].lower(), query[end - 4 : end - 2]
        if b"slow" in name:
            continue
        answers = b""
        if kind == b"\0\x01":  # A; others have no answer
            answers = b"\xc0\x0c\0\x01\0\x01" + struct.pack(">IH", 60, 4) + bytes([127, 0, 0, 1])
        counts = struct.pack(">HHHH", 1, 1 if answers else 0, 0, 0)
        server.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + answers, sender)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
