"""Every venue passes the same test: recorded frames are understood, books are whole, client and simulator agree.

What no recording exists for is in docs/venues.md, which these tests keep true.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

import pytest

from exchanges.port import Simulation, Simulator, Subscription, Unparsable
from ssmd.events import BookDelta, BookSnapshot, Event, Status, Ticker, Trade

from . import venues
from .docs import table
from .venues import Books, Known, Message, Talk

KNOWN = venues.known()
EVERY = pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
RECORDED = [(k, m) for k in KNOWN for m in k.recorded]
RECORDING = pytest.mark.parametrize(("known", "message"), RECORDED, ids=[f"{k.name}-{m.fixture}" for k, m in RECORDED])
FRAMES_MAX = 20_000  # of a recording: the end-to-end tests replay whole ones


def channels(known: Known) -> list[str]:
    """What its simulator can be subscribed to by the feed's default plan."""
    return list(known.feeds[0]["versions"][-1]["channels"])


def followed(known: Known, seconds: int = 30, **more: float) -> Talk:
    """A generated market, subscribed to as the feed does it, for a while."""
    simulator = known.venue.simulator(Simulation(seed=11, markets=6, frames_per_second=300, **more))  # type: ignore[arg-type]
    simulator.generate(venues.NOW_NS)
    symbols = listed(known, simulator)
    talk = Talk(known, simulator, known.adapter(channels(known), sorted(symbols)))
    for _ in range(seconds * 4):
        talk.tick(0.25)
    return talk


def listed(known: Known, simulator: Simulator) -> list[str]:
    """The instruments that are open."""
    symbols: list[str] = []
    todo = list(known.venue.instruments([]))
    while todo:
        request = todo.pop()
        answer = simulator.answer(request.method, known.target(request), {}, venues.NOW_NS)
        page = known.venue.instruments_page(request, answer.body)
        symbols += page.symbols
        todo += [page.next] if page.next is not None else []
    assert symbols
    return symbols


def events_of(known: Known, talk: Talk) -> list[Event]:
    grammar = known.venue.events("2026-08-11")
    return [e for c, w in zip(talk.routes, talk.wires, strict=True) if c[0] != "_" for e in grammar(c, w)]


@EVERY
def test_every_channel_of_the_feed_rests_on_something(known: Known) -> None:
    told = {m.channel for m in known.messages if m.role == "server"}
    assert {m.role for m in known.messages} <= {"client", "server", "rest"}
    assert {m.evidence for m in known.messages} <= {"recorded", "documented", "one-source", "unconfirmed"}
    for feed in known.feeds:
        for version in feed["versions"]:
            missing = [
                c for c in version["channels"] if not any(t == c or t.startswith(re.split("[.@]", c)[0]) for t in told)
            ]
            assert not missing, f"evidence.yaml of {known.name} does not say what {missing} rest on"


@EVERY
def test_subscriptions_stand_once_the_venue_has_answered_them(known: Known) -> None:
    talk = followed(known, seconds=5)
    assert talk.adapter.standing
    alone = known.adapter(channels(known), sorted(listed(known, talk.simulator)))
    alone.opened()
    assert not alone.standing
    for second in range(300):
        alone.tick(venues.NOW_NS + second * venues.SECOND_NS)
    gives_up = known.name != "polymarket"  # books are all that answers there, and those that stay away are told
    assert alone.standing == gives_up


@EVERY
def test_a_connection_that_follows_at_once_misses_nothing(known: Known) -> None:
    """And one that follows later says of no stream that it misses more than there was."""
    first = followed(known, seconds=10)
    symbols = sorted(listed(known, first.simulator))
    after = known.adapter(channels(known), symbols, first.adapter.numbers())
    second = Talk(known, first.simulator, after, first.now_ns)
    for _ in range(40):
        second.tick(0.25)
    assert [n for n in second.notices if n.kind in {"break", "warning", "refused"}] == []
    assert second.adapter.numbers().keys() >= first.adapter.numbers().keys() & set(symbols)


@EVERY
def test_what_is_said_to_be_recorded_is_there(known: Known) -> None:
    for message in known.messages:
        if message.fixture.startswith("recordings/") and not venues.RECORDINGS.is_dir():
            continue
        assert (message.evidence == "recorded") == bool(message.fixture), message
        assert not message.fixture or known.path(message.fixture).exists(), message


@RECORDING
def test_recorded_frames_are_understood(known: Known, message: Message) -> None:
    if not known.path(message.fixture).exists():
        pytest.skip(f"{message.fixture} may not be copied, and is not here")
    adapter = known.adapter()
    adapter.opened()
    kinds: Counter[str] = Counter()
    books = Books()
    crossed = trades = inside = 0
    for i, wire in enumerate(venues.read(known, message)):
        if i == FRAMES_MAX:
            break
        route = adapter.received(wire.wire, wire.ts_recv)
        assert route.bad is None, f"frame {i} is quarantined: {route.bad}: {wire.wire[:200]!r}"
        try:
            events = known.venue.events(wire.date)(route.channel, wire.wire)
        except Unparsable as e:
            raise AssertionError(f"frame {i} of {route.channel}: {e}: {wire.wire[:300]!r}") from e
        kinds[route.channel] += 1
        for event in events:
            if isinstance(event, Trade):
                assert Decimal(event.price) >= 0 and Decimal(event.size) > 0
                bid, ask = books.top(event.symbol)
                if bid is not None and ask is not None:
                    trades += 1
                    inside += bid - 2 * (ask - bid) <= Decimal(event.price) <= ask + 2 * (ask - bid)
            books.apply(event)
        for symbol in {e.symbol for e in events if isinstance(e, BookDelta | BookSnapshot)}:
            crossed += books.crossed(symbol)
    assert kinds, "the recording holds no frame of the venue's"
    if sum(kinds.values()) < 100:
        return  # single frames, of different hours
    assert crossed <= sum(kinds.values()) // 1000, f"{crossed} of {dict(kinds)} leave a crossed book"
    assert inside >= 0.95 * trades, f"{trades - inside} of {trades} trades are far outside the book"


@EVERY
def test_client_and_simulator_understand_each_other(known: Known) -> None:
    talk = followed(known)
    assert not talk.bad, talk.bad[0]
    assert not talk.notices, talk.notices[:3]
    assert len(talk.wires) > 2_000
    events = events_of(known, talk)
    kinds = {type(e) for e in events}
    assert {Trade, BookDelta, BookSnapshot} <= kinds, kinds
    books = Books()
    for event in events:
        books.apply(event)
        if isinstance(event, BookDelta | BookSnapshot):
            assert not books.negative(event.symbol), event
    for symbol in books.sides:
        assert not books.crossed(symbol), symbol


@EVERY
def test_a_frame_that_is_lost_is_noticed(known: Known) -> None:
    """Skip one book frame in the middle: a break, and in the end mended."""
    talk = followed(known, seconds=10)
    grammar, router = known.venue.events("2026-08-11"), known.adapter()
    deliver = talk.deliver
    lost: list[bytes] = []

    def lossy(wires: Iterable[bytes]) -> None:
        for wire in wires:
            if not lost and any(isinstance(e, BookDelta) for e in grammar(router.received(wire, 0).channel, wire)):
                lost.append(wire)
            else:
                deliver([wire])

    talk.deliver = lossy  # type: ignore[method-assign]
    for _ in range(40):
        talk.tick(0.5)
    assert lost
    kinds = [n.kind for n in talk.notices]
    assert "break" in kinds, kinds
    assert "mended" in kinds[kinds.index("break") :], kinds


@EVERY
def test_simulated_frames_are_shaped_as_recorded_ones(known: Known) -> None:
    """No key and no type that the venue does not send; nothing missing that it always sends."""
    seen: dict[str, list[set[tuple[str, str]]]] = {}
    for message in known.recorded:
        if message.date or not known.path(message.fixture).exists():
            continue  # an older grammar
        adapter = known.adapter()
        adapter.opened()
        for i, wire in enumerate(venues.read(known, message)):
            if i == 3000:
                break
            frame = json.loads(wire.wire)
            kind = venues.kind_of(adapter.received(wire.wire, wire.ts_recv).channel, frame)
            seen.setdefault(kind, []).append(venues.shape(frame))
    if not seen:
        pytest.skip(f"no recording of {known.name}'s is here")
    ever = {kind: set().union(*shapes) for kind, shapes in seen.items()}
    each_time = {kind: set.intersection(*shapes) for kind, shapes in seen.items()}
    talk = followed(known, seconds=10)
    compared: Counter[str] = Counter()
    for channel, wire in zip(talk.routes, talk.wires, strict=True):
        if channel == "control":
            continue  # it may be no JSON
        frame = json.loads(wire)
        kind = venues.kind_of(channel, frame)
        if kind in seen:
            compared[kind] += 1
            ours = venues.shape(frame)
            possible, always = ever[kind], each_time[kind]
            paths = {path for path, _ in possible}  # nothing yet, as in a fresh market, is no other type
            strange = {(path, what) for path, what in ours - possible if what != "null" or path not in paths}
            strange = {(p, t) for p, t in strange if p.rpartition(".")[2] not in known.unseen_keys}
            assert not strange, f"{kind}: the venue never sends {sorted(strange)[:5]}: {wire[:300]!r}"
            lists = {path for path, what in ours if what == "list"}
            empty = {path for path, what in ours if what == "null"}
            missing = {(p, t) for p, t in always - ours if not any(p.startswith(f"{path}[]") for path in lists)}
            missing = {(p, t) for p, t in missing if p not in empty}
            assert not missing, f"{kind}: the venue always sends {sorted(missing)[:5]}: {wire[:300]!r}"
    assert compared, f"nothing to compare: recorded {sorted(seen)}, simulated {sorted(set(talk.routes))}"


@EVERY
def test_tickers_and_trades_say_what_they_must(known: Known) -> None:
    for event in events_of(known, followed(known, seconds=10)):
        if isinstance(event, Trade):
            assert event.side in ("buy", "sell") and event.trade_id and event.ts_event
        elif isinstance(event, Ticker):
            assert event.ts_event is None or event.ts_event > 10**18


def test_the_page_of_venues_is_true() -> None:
    page = (venues.ROOT / "docs/venues.md").read_text()
    for known in KNOWN:
        assert table(known) in page, "docs/venues.md is old: make it anew with `python -m tests.exchanges.docs`"


@EVERY
def test_a_connection_beside_another_brings_its_own_instruments_alone(known: Known) -> None:
    """Only one of a feed's connections carries the channels that are of no list, and says whether they bring all."""
    simulator = known.venue.simulator(Simulation(seed=11, markets=8, frames_per_second=300))
    simulator.generate(venues.NOW_NS)
    symbols = listed(known, simulator)  # those that are told of by the same frames come one after the other
    half = symbols[: len(symbols) // 4 * 2]
    wanted = tuple(channels(known))
    first = Talk(known, simulator, known.venue.adapter(Subscription(wanted, tuple(half))))
    second = Talk(
        known, simulator, known.venue.adapter(Subscription(wanted, tuple(symbols[len(half) :]), general=False))
    )
    for _ in range(40):
        first.tick(0.25)
        second.now_ns = first.now_ns - 250_000_000
        second.pass_time(0.25, first.records)
    grammar = known.venue.events("2026-08-11")

    def brought(talk: Talk) -> set[str]:
        routed = zip(talk.routes, talk.wires, strict=True)
        return {e.symbol for c, w in routed if c[0] != "_" for e in grammar(c, w) if not isinstance(e, Status)}

    assert brought(second) == set(symbols) - set(half) and not second.notices
    assert not second.adapter.brings_all
    assert first.adapter.brings_all or brought(first) == set(half)


@EVERY
def test_an_answer_explains_the_silence_of_all_that_was_busy(known: Known) -> None:
    """And nothing else does: not the frames of other channels, not heartbeats."""
    talk = followed(known, seconds=10)
    assert not any(n.kind == "explained" for n in talk.notices)
    busy = {channel for channel, count in Counter(talk.routes).items() if count >= 100} - venues.OWN
    talk.send(talk.adapter.probe())
    explained = {channel for n in talk.notices if n.kind == "explained" for channel in n.channels}
    assert busy and busy <= explained


@EVERY
def test_what_the_venue_refuses_is_told_by_name(known: Known) -> None:
    """In whatever way it does: an error, an answer that leaves it out, an acknowledgement with nothing behind it.

    Of a market that does not exist Kalshi sends an empty book, as captures show: there a channel is refused.
    """
    simulator = known.venue.simulator(Simulation(seed=11, markets=2, frames_per_second=50))
    simulator.generate(venues.NOW_NS)
    unknown = "NOPE-99DEC31" if known.name in {"kalshi", "deribit"} else "NOPEUSDT"
    wanted = [*channels(known), "nope"] if known.name == "kalshi" else channels(known)
    talk = Talk(known, simulator, known.adapter(wanted, [unknown]))
    for _ in range(200):
        talk.tick(1.0)
    refused = {symbol for n in talk.notices if n.kind == "refused" for symbol in n.symbols}
    assert refused == {unknown}, talk.notices


@EVERY
def test_a_subscription_that_is_never_answered_is_told(known: Known) -> None:
    simulator = known.venue.simulator(Simulation(seed=11, markets=2, frames_per_second=50))
    simulator.generate(venues.NOW_NS)
    adapter = known.adapter(channels(known), ["ONE", "TWO"])
    adapter.opened()
    notices = []
    for second in range(240):
        told = adapter.tick(venues.NOW_NS + second * venues.SECOND_NS)
        notices += told.notices if told is not None else ()
    refused = {symbol for n in notices if n.kind == "refused" for symbol in n.symbols}
    assert refused == {"ONE", "TWO"}, notices
