"""Defences switched off, one at a time: each must make worlds fail, or the proof would prove nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from services.archiver.archiver import Archiver
from services.archiver.ranges import Numbers
from services.archiver.store import Store
from services.connector.publisher import Publisher
from ssmd import durable, subjects
from ssmd.journal import Journal
from tests.chaos.simulation import world as faults
from tests.chaos.simulation.world import ENV, FEED, World


@contextmanager
def confirm_before_the_cursor_is_durable(world: World) -> Iterator[None]:
    """The archiver tells the connector what is safe when it begins to write it."""
    begin = Store.begin

    def told(store: Store, *args: Any, **more: Any) -> Any:
        commit = begin(store, *args, **more)
        archiver = world.archiver.service
        if commit is not None and commit.archived and isinstance(archiver, Archiver):
            asyncio.ensure_future(archiver._tell(subjects.archived(ENV, FEED), commit.archived))  # noqa: RUF006
        return commit

    with mock.patch.object(Store, "begin", told):
        yield


@contextmanager
def no_cut_to_the_cursor(world: World) -> Iterator[None]:
    """After a crash the archiver goes on behind bytes that its cursor does not know."""
    appender = durable.Appender.__init__

    def uncut(self: durable.Appender, path: Any, size: int | None = None) -> None:
        appender(self, path, None if path.name.endswith(".part") else size)

    with mock.patch.object(durable.Appender, "__init__", uncut):
        yield


@contextmanager
def remove_segments_before_they_are_confirmed(world: World) -> Iterator[None]:
    confirm = Journal.confirm
    with mock.patch.object(Journal, "confirm", lambda self, archived: confirm(self, lambda conn, first, last: True)):
        yield


@contextmanager
def published_is_as_good_as_acknowledged(world: World) -> Iterator[None]:
    """Nothing is sent again, not even when the archiver asks: two defences against one loss."""
    send = Publisher._send

    def sent(self: Publisher, records: Any) -> None:
        send(self, records)
        self._flight.clear()
        self._flight_bytes = 0

    with (
        mock.patch.object(Publisher, "_send", sent),
        mock.patch.object(Publisher, "_advance", lambda self, count: None),
        mock.patch.object(Publisher, "resend", lambda self: None),
        mock.patch.object(Publisher, "again", lambda self, records: None),
    ):
        yield


@contextmanager
def no_sync_of_the_journal(world: World) -> Iterator[None]:
    def nothing(self: Journal) -> Callable[[], None]:
        return lambda: None

    with mock.patch.object(Journal, "syncs", nothing):
        yield


@contextmanager
def no_sync_of_folders(world: World) -> Iterator[None]:
    with mock.patch.object(durable, "sync_folder", lambda folder: None):
        yield


@contextmanager
def no_dropping_of_duplicates(world: World) -> Iterator[None]:
    add = Numbers.add

    def always(self: Numbers, n: int) -> bool:
        add(self, n)
        return True

    with mock.patch.object(Numbers, "add", always):
        yield


@contextmanager
def no_cut_of_the_journals_torn_tail(world: World) -> Iterator[None]:
    """And the next run writes behind it, into the same segment."""
    following = Journal._next_segment

    def same(self: Journal) -> durable.Appender:
        if self._appender is None and self._segments:
            self._appender = durable.Appender(self._segments[-1].path)
            self._segments[-1].bytes = self._appender.size
            return self._appender
        return following(self)

    appender = durable.Appender.__init__

    def uncut(self: durable.Appender, path: Any, size: int | None = None) -> None:
        appender(self, path, None if path.name.endswith(".journal") else size)

    with mock.patch.object(Journal, "_next_segment", same), mock.patch.object(durable.Appender, "__init__", uncut):
        yield


# Each with the faults that bring it to light, so that a few worlds suffice.
MUTATIONS: dict[str, tuple[Callable[[World], Any], tuple[Callable[[World], None], ...]]] = {
    mutation.__name__: (mutation, by)
    for mutation, by in (
        (confirm_before_the_cursor_is_durable, (faults.die_at_a_step, faults.nats_loses_power)),
        (no_cut_to_the_cursor, (faults.die_at_a_step, faults.full_disk)),
        (remove_segments_before_they_are_confirmed, (faults.lose_power, faults.nats_loses_power)),
        (published_is_as_good_as_acknowledged, (faults.drop_nats_connections, faults.nats_loses_power)),
        (no_sync_of_the_journal, (faults.lose_power, faults.nats_loses_power, faults.cut_off_from_nats)),
        (no_sync_of_folders, (faults.lose_power,)),
        (no_dropping_of_duplicates, (faults.drop_nats_connections,)),
        (no_cut_of_the_journals_torn_tail, (faults.die_at_a_step, faults.full_disk)),
    )
}
