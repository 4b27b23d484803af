"""A taken port is replaced by a free one, unless it was asked for: then nothing is started."""

import socket
from collections.abc import Iterator

import pytest

from ssmd.errors import Permanent
from ssmd.up import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_a_taken_port_is_replaced_by_a_free_one(taken: int) -> None:
    chosen = ports.choose({"nats": taken}, {})["nats"]
    assert chosen.replaced
    assert chosen.port != taken
    assert ports.is_free(chosen.port)


def test_a_free_port_is_kept(free_port) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    assert ports.choose({"nats": port}, {})["nats"] == ports.Chosen("nats", port, port)


def test_a_port_listened_on_at_every_address_counts_as_taken() -> None:
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        assert not ports.is_free(s.getsockname()[1])


def test_no_two_parts_get_the_same_port(free_port) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    chosen = ports.choose({"a": port, "b": port, "c": port}, {"c": port})
    assert len({c.port for c in chosen.values()}) == 3
    assert chosen["c"].port == port


def test_an_asked_port_in_use_is_refused(taken: int) -> None:
    with pytest.raises(Permanent, match=rf"--port nats={taken}: port {taken} .* is in use"):
        ports.choose({"nats": 4222}, {"nats": taken})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["nats"], "is not NAME=N"),
        (["nats=x"], "is not NAME=N"),
        (["nats=0"], "is not NAME=N"),
        (["nats=65536"], "is not NAME=N"),
        (["nats=²"], "is not NAME=N"),
        (["nat=5"], "nothing here listens as 'nat'; there is: nats, ui"),
        (["nats=5000", "nats=5001"], "already given"),
        (["nats=5000", "ui=5000"], "already given to nats"),
    ],
)
def test_an_option_that_is_no_port_of_ours_is_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(Permanent, match=sentence):
        ports.asked(options, ["nats", "ui"])
