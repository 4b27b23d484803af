"""Simulated venues behind HTTP, for jobs that ask them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from exchanges.port import Answer, Simulator

Fault = Callable[[str], Answer | None]  # of a target: the answer instead of the venue's


@dataclass
class Asked:
    """Where the venue listens, what it was asked, and what it answers instead of what it would."""

    url: str
    targets: list[str] = field(default_factory=list)
    fault: Fault = lambda target: None


@contextmanager
def listening(simulator: Simulator, now_ns: Callable[[], int]) -> Iterator[Asked]:
    """The simulator's REST on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.targets.append(self.path)
            headers = {k.lower(): v for k, v in self.headers.items()}
            answer = asked.fault(self.path) or simulator.answer("GET", self.path, headers, now_ns())
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked = Asked(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
