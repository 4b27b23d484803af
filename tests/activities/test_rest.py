"""Venues are asked patiently: busy ones again, refusals not, each attempt signed anew, at the venue's pace."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from activities import rest
from activities.rest import Rest
from exchanges.kalshi import venue
from exchanges.port import Request
from ssmd.errors import Permanent, Transient
from tests.exchanges.test_every_venues_rest_conforms import simulator
from tests.exchanges.venues import known

Script = list[tuple[int, bytes, dict[str, str]]]


@contextmanager
def answering(script: Script) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A venue that answers so, the last for ever; and the headers it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append({"target": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            status, body, headers = script[min(len(got), len(script)) - 1]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "WAIT_SECONDS", (0.002, 0.01))


def asked(base: str, **more: object) -> Rest:
    return Rest("kalshi", venue, base, 10_000.0, simulated=True, **more)  # type: ignore[arg-type]


REQUEST = Request("GET", "/markets", {"series_ticker": "A B"})


def test_a_busy_venue_is_asked_again_until_it_answers() -> None:
    with answering([(429, b"", {}), (503, b"<html>", {}), (200, b"yes", {})]) as (base, got):
        assert asked(base).ask(REQUEST, lambda body: body) == b"yes"
    assert [g["target"] for g in got] == ["/markets?series_ticker=A+B"] * 3


def test_patience_ends_with_the_venues_reason() -> None:
    with answering([(503, b"", {})]) as (base, got), pytest.raises(Transient, match="maintenance"):
        asked(base).ask(REQUEST, bytes)
    assert len(got) == rest.TRIES_MAX


def test_a_refusal_is_not_asked_again() -> None:
    with answering([(400, b'{"error":"bad"}', {})]) as (base, got), pytest.raises(Permanent, match="bad"):
        asked(base).ask(REQUEST, bytes)
    assert len(got) == 1


def test_what_the_reader_finds_busy_is_asked_again() -> None:
    """Some venues say so with status 200."""

    def read(body: bytes) -> bytes:
        if body == b"busy":
            raise Transient("busy")
        return body

    with answering([(200, b"busy", {}), (200, b"yes", {})]) as (base, _):
        assert asked(base).ask(REQUEST, read) == b"yes"


def test_retry_after_is_kept_and_too_long_a_one_given_back() -> None:
    with answering([(429, b"", {"Retry-After": "1"}), (200, b"yes", {})]) as (base, _):
        begun = time.monotonic()
        assert asked(base).ask(REQUEST, bytes) == b"yes"
        assert time.monotonic() - begun >= 1
    with answering([(429, b"", {"Retry-After": "3600"})]) as (base, got), pytest.raises(Transient):
        asked(base).ask(REQUEST, bytes)
    assert len(got) == 1


def test_nobody_there_is_transient_and_names_the_venue() -> None:
    with answering([(200, b"", {})]) as (base, _):
        pass
    with pytest.raises(Transient, match="kalshi cannot be reached"):
        asked(base).ask(REQUEST, bytes)


def test_each_attempt_is_signed_anew() -> None:
    _, key = simulator(next(k for k in known() if k.name == "kalshi"))
    with answering([(503, b"", {}), (200, b"yes", {})]) as (base, got):
        asked(base, key=key).ask(venue.key_check(), bytes)
        with pytest.raises(Permanent, match="name a key of it"):
            asked(base).ask(venue.key_check(), bytes)
    first, second = (g["kalshi-access-signature"] for g in got)
    assert first != second


def test_the_pace_is_the_venues() -> None:
    with answering([(200, b"", {})]) as (base, got):
        begun = time.monotonic()
        for _ in range(2):
            with Rest("kalshi", venue, base, 20.0, simulated=True) as one:
                for _ in range(3):
                    one.ask(REQUEST, bytes)
        assert time.monotonic() - begun >= 5 / 20
    assert len(got) == 6


def test_a_long_answer_is_no_silence() -> None:
    beats: list[float] = []
    with answering([(200, b"x" * 3_000_000, {})]) as (base, _):
        body = asked(base, beat=lambda: beats.append(time.monotonic())).ask(REQUEST, bytes)
    assert len(body) == 3_000_000 and len(beats) > 10


def test_a_cancellation_ends_the_wait() -> None:
    def beat() -> None:
        raise KeyboardInterrupt

    with answering([(429, b"", {"Retry-After": "50"})]) as (base, _), pytest.raises(KeyboardInterrupt):
        asked(base, beat=beat).ask(REQUEST, bytes)
