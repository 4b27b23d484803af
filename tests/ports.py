"""Ports for servers of tests, that nobody else takes between the choice and the start.

The kernel gives clients ports from 32768 upwards, and a server that is a second late finds its own taken by one of
them. These are below, each process of the tests begins in a range of its own, and none is given twice in a process.
"""

import itertools
import os
import random
import re
import socket

HOST = "127.0.0.1"
_FIRST, _LAST = 15_000, 32_000  # above the usual ports of `ssmd up`, below the kernel's


def _ports() -> "itertools.cycle[int]":
    """All of them, from a place that differs between processes: half the way for half of pytest's workers."""
    worker = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
    assert worker is not None
    half = (_LAST - _FIRST) // 2
    start = random.randrange(half) + half * (int(worker.group()) % 2)
    numbers = range(_FIRST, _LAST)
    return itertools.cycle([*numbers[start:], *numbers[:start]])


_NEXT = _ports()


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    for port in _NEXT:
        with socket.socket() as s:
            try:
                s.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("the cycle has no end")
