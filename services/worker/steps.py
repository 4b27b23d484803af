"""All that a worker can do, with what it needs in hand."""

from collections.abc import Callable
from typing import Any

from activities.archive import Archive
from activities.backfill import Backfill
from activities.processes import Processes
from activities.quarantine import Quarantine
from activities.rollup import Rollup
from activities.verify import Verify
from ssmd import config


def steps(
    places: config.Places, addresses: config.Addresses, processes: Processes, rolling_up: config.RollingUp
) -> list[Callable[..., Any]]:
    """The activities, bound to a data folder and the servers of an environment."""
    archive = Archive(places, addresses.environment, addresses.nats)
    rollup = Rollup(places, processes, rolling_up.memory_bytes)
    verify = Verify(places, processes)
    environment = config.load_environment(addresses.environment)
    backfill = Backfill(places, environment, addresses)
    return [
        archive.await_seal,
        archive.verify,
        rollup.rollup_hour,
        rollup.publish_day,
        verify.scrub_archive,
        verify.scrub_journal,
        verify.scrub_lake,
        verify.make_again,
        Quarantine(places).replay_quarantine,
        backfill.feeds_with_gaps,
        backfill.plan_backfill,
        backfill.fill_window,
    ]
