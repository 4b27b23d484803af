"""Whatever comes and goes: each instrument is carried once, no connection has too many, and none moves."""

from hypothesis import given
from hypothesis import strategies as st

from services.connector.pace import BURST, Pace
from services.connector.spread import Spread
from ssmd.config import Limits

SYMBOLS = st.sets(st.integers(0, 60).map(lambda n: f"S{n}"), max_size=40)


@given(st.lists(SYMBOLS, max_size=8), st.integers(1, 9), st.integers(1, 6))
def test_each_is_carried_once_and_stays_where_it_is(days: list[set[str]], symbols_max: int, places_max: int) -> None:
    spread, again = Spread(symbols_max, places_max), Spread(symbols_max, places_max)
    for wanted in days:
        before = {symbol: number for number, symbols in spread.places.items() for symbol in symbols}
        changes = spread.follow(wanted)
        assert changes == again.follow(sorted(wanted, reverse=True)), "the same whatever the order"
        now = {symbol: number for number, symbols in spread.places.items() for symbol in symbols}
        assert sum(map(len, spread.places.values())) == len(now)
        assert {*now, *spread.left} == wanted and not {*spread.left} & now.keys()
        assert all(now[symbol] == number for symbol, number in before.items() if symbol in wanted), "none moves"
        assert max(map(len, spread.places.values())) <= symbols_max and len(spread.places) <= places_max
        assert all(spread.places[number] for number in spread.places if number), "none is empty but the first"
        assert not spread.left or len(now) == symbols_max * places_max, "none is left out while there is room"
        told = {n: ({*c.new}, {*c.gone}) for n, c in changes.items()}
        for number in {*before.values(), *now.values()}:
            had, has = {s for s in before if before[s] == number}, {s for s in now if now[s] == number}
            assert told.get(number, (set(), set())) == (has - had, had - has)


@given(SYMBOLS, SYMBOLS, st.integers(1, 9))
def test_a_next_run_begins_where_the_last_one_left_them(one: set[str], other: set[str], symbols_max: int) -> None:
    spread = Spread(symbols_max, 100)
    spread.follow(one)
    kept = {number: sorted(symbols) for number, symbols in spread.places.items()}
    follower = Spread(symbols_max, 100, kept)
    assert follower.follow(other) == spread.follow(other) and follower.places == spread.places


@given(SYMBOLS, SYMBOLS, st.integers(1, 5))
def test_what_belongs_together_is_kept_within_the_limits(one: set[str], other: set[str], symbols_max: int) -> None:
    together = {f"S{n}": f"M{n % 7}" for n in range(40)}
    spread = Spread(symbols_max, 100)
    for wanted in (one, other):
        spread.follow(wanted, together)
        assert {s for symbols in spread.places.values() for s in symbols} == wanted and not spread.left
        assert max(map(len, spread.places.values())) <= symbols_max


def test_two_halves_of_a_market_share_a_connection() -> None:
    together = {f"{side}{n}": f"M{n}" for n in range(50) for side in "YN"}
    spread = Spread(10, 100)
    spread.follow(together, together)
    assert all(any({f"Y{n}", f"N{n}"} <= symbols for symbols in spread.places.values()) for n in range(50))
    assert len(spread.places) == 10
    spread = Spread(10, 100)
    spread.follow([f"Y{n}" for n in range(8)], together)
    spread.follow([f"{side}{n}" for n in range(8) for side in "YN"][:9], together)
    assert all(any({f"Y{n}", f"N{n}"} <= symbols for symbols in spread.places.values()) for n in range(4))


def test_a_lower_limit_moves_what_is_too_much() -> None:
    spread = Spread(2, 10, {0: ["A", "B", "C"], 1: ["D"]})
    spread.follow(["A", "B", "C", "D"])
    assert spread.places == {0: {"A", "B"}, 1: {"C", "D"}}


def test_symbols_times_channels_stay_within_the_limit() -> None:
    assert Limits(subscriptions_per_connection=1024).symbols_max(3) == 340
    assert Limits(subscriptions_per_connection=1024, symbols_per_connection=100).symbols_max(3) == 100
    assert (Limits().symbols_max(3), Limits(symbols_per_connection=7).symbols_max(3)) == (None, 7)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=200), st.sampled_from([12.0, 50.0, 300.0]))
def test_attempts_stay_within_the_pace(pauses: list[float], per_minute: float) -> None:
    """Each attempt is made when its turn has come; the next one is asked for no earlier than it was made."""
    pace, now, made = Pace(per_minute), 100.0, []
    for pause in pauses:
        now += pause
        now += pace.wait(now)
        made.append(now)
    for i, start in enumerate(made):
        within = sum(start <= t < start + 60 for t in made[i:])
        assert within <= per_minute + BURST + 1
