"""Which of several connections carries which instrument: decided from the instruments alone, by no clock and no chance.

A venue takes so many subscriptions on a connection. An instrument stays where it is as long as it is wanted, for
moving it would be a gap; new ones go where there is most room, and a connection more is opened when there is none.
"""

import heapq
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Change(NamedTuple):
    """What a place carries more than before, and what it carries no longer."""

    new: tuple[str, ...]
    gone: tuple[str, ...]


class Spread:
    """Instruments on places 0, 1, 2 …: place 0 is always there, another one as long as it carries something."""

    def __init__(self, symbols_max: int | None, places_max: int, carried: Mapping[int, Iterable[str]] | None = None):
        """At most `symbols_max` on a place; `carried` is where a former run had them."""
        self._symbols_max = symbols_max
        self._places_max = places_max
        self.places: dict[int, set[str]] = {0: set()}
        self.left: tuple[str, ...] = ()  # no place has room for these
        for number, symbols in sorted((carried or {}).items()):
            self.places[number] = set(symbols)

    def follow(self, wanted: Iterable[str], together: Mapping[str, str] = MappingProxyType({})) -> dict[int, Change]:
        """Carry exactly these; what changes at which place. Places left without anything are gone from `places`.

        Instruments for which `together` has the same go to the same place, if there is one with room for them.
        """
        listed = set(wanted)
        before = {number: frozenset(symbols) for number, symbols in self.places.items()}
        carried: set[str] = set()
        for number in sorted(self.places):
            kept = sorted((self.places[number] & listed) - carried)[: self._symbols_max]
            self.places[number] = set(kept)
            carried |= self.places[number]
        self._place(sorted(listed - carried), together)
        for number in [n for n, symbols in self.places.items() if n and not symbols]:
            del self.places[number]
        changes = {}
        for number in sorted({*before, *self.places}):
            had, has = before.get(number, frozenset()), self.places.get(number, set())
            if had != has:
                changes[number] = Change(tuple(sorted(has - had)), tuple(sorted(had - has)))
        return changes

    def _place(self, new: list[str], together: Mapping[str, str]) -> None:
        most = self._symbols_max
        if most is None:
            self.places[0].update(new)
            self.left = ()
            return
        room = sum(most - len(symbols) for symbols in self.places.values())
        number = 0
        while room < len(new) and len(self.places) < self._places_max:
            while number in self.places:
                number += 1
            self.places[number] = set()
            room += most
        self.left = tuple(new[room:])
        blocks: dict[str, list[str]] = {}
        for symbol in new[:room]:
            blocks.setdefault(together.get(symbol, symbol), []).append(symbol)
        self._join_others(blocks, together, most)
        emptiest = [(len(symbols), n) for n, symbols in self.places.items() if len(symbols) < most]
        heapq.heapify(emptiest)
        for block in blocks.values():
            rest = block
            while rest:
                count, place = heapq.heappop(emptiest)
                some, rest = rest[: most - count], rest[most - count :]
                self.places[place].update(some)
                if count + len(some) < most:
                    heapq.heappush(emptiest, (count + len(some), place))

    def _join_others(self, blocks: dict[str, list[str]], together: Mapping[str, str], most: int) -> None:
        """What belongs with something that is carried already goes there, and is taken out of `blocks`."""
        where = {together[s]: place for place, symbols in self.places.items() for s in symbols if s in together}
        for name in sorted(blocks.keys() & where.keys()):
            place = self.places[where[name]]
            if len(place) + len(blocks[name]) <= most:
                place.update(blocks.pop(name))
