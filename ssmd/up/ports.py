"""Which port each part listens on: its usual one, a free one if that is taken, or exactly the one asked for."""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssmd.errors import Permanent
from ssmd.up.servers import LOOPBACK

SEARCHED = (
    500  # ports above the usual one that are tried; below the kernel's own range (32768 and up), so no client takes one
)
PORT_MAX = 65535


@dataclass(frozen=True)
class Chosen:
    """The port a part gets; `usual` is what it would have had."""

    name: str
    port: int
    usual: int

    @property
    def replaced(self) -> bool:
        return self.port != self.usual


def asked(options: Iterable[str], names: Iterable[str]) -> dict[str, int]:
    """`NAME=N` options as a mapping. Raises Permanent for what is no port of ours."""
    known = list(names)
    wanted: dict[str, int] = {}
    for option in options:
        name, equals, number = option.partition("=")
        if not equals or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= PORT_MAX:
            raise Permanent(f"--port {option}: is not NAME=N with N from 1 to {PORT_MAX}, such as --port nats=4222")
        if name not in known:
            raise Permanent(f"--port {option}: nothing here listens as {name!r}; there is: {', '.join(known)}")
        if name in wanted:
            raise Permanent(f"--port {option}: {name} was already given port {wanted[name]}; give it once")
        if int(number) in wanted.values():
            other = next(n for n, p in wanted.items() if p == int(number))
            raise Permanent(f"--port {option}: that port was already given to {other}; choose another")
        wanted[name] = int(number)
    return wanted


def refuse_taken(wanted: Mapping[str, int]) -> None:
    """Raise Permanent if a port that was explicitly asked for is in use."""
    for name, port in wanted.items():
        if not is_free(port):
            raise Permanent(
                f"--port {name}={port}: port {port} of {LOOPBACK} is in use or not ours to open; "
                f"stop what listens there (`ss -ltnp 'sport = :{port}'` names it), or ask for another"
            )


def choose(usual: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, Chosen]:
    """A port for each name in `usual`. Raises Permanent if an asked one is taken."""
    refuse_taken(wanted)
    given = set(wanted.values())
    chosen: dict[str, Chosen] = {}
    for name, preferred in usual.items():
        port = wanted[name] if name in wanted else _next_free(preferred, given)
        given.add(port)
        chosen[name] = Chosen(name, port, wanted.get(name, preferred))
    return chosen


def is_free(port: int) -> bool:
    """Nothing listens there on loopback (or on every address)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does: old connections do not count
        try:
            s.bind((LOOPBACK, port))
            s.listen(1)
        except OSError:
            return False
    return True


def _next_free(preferred: int, given: set[int]) -> int:
    for port in range(preferred, preferred + SEARCHED):
        if port not in given and is_free(port):
            return port
    raise Permanent(
        f"no port from {preferred} to {preferred + SEARCHED - 1} of {LOOPBACK} is free: close some listeners"
    )
