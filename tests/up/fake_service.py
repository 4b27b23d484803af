"""A service of nothing: says that it is ready (or, with `unready`, never), and writes down when it starts and stops."""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

name, port, diary = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def note(what: str) -> None:
    with Path(diary).open("a") as file:
        file.write(f"{what} {name} {os.getpid()}\n")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"ok": True, "problems": [], "frames": 7, "connected": True}).encode()
        self.send_response(503 if self.path == "/ready" and "unready" in sys.argv else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", port), Answer)


def stop(*_: object) -> None:
    note("stops")
    threading.Thread(target=server.shutdown).start()


signal.signal(signal.SIGTERM, stop)
note("starts")
server.serve_forever()
