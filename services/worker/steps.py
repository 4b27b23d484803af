"""All that a worker can do, with what it needs in hand."""

from collections.abc import Callable
from typing import Any

from activities.archive import Archive
from activities.backfill import Backfill
from activities.day import Days
from activities.fees import Fees
from activities.keys import Keys
from activities.processes import Processes
from activities.quarantine import Quarantine
from activities.report import Reports
from activities.rollup import Rollup
from activities.secmaster import Secmaster
from activities.storage import Storage
from activities.verify import Verify
from ssmd import config


def steps(
    places: config.Places, addresses: config.Addresses, processes: Processes, rolling_up: config.RollingUp
) -> list[Callable[..., Any]]:
    """The activities, bound to a data folder and the servers of an environment."""
    environment = config.environment_of(addresses)
    archive = Archive(places, addresses.environment, addresses.nats)
    rollup = Rollup(places, processes, rolling_up.memory_bytes)
    verify = Verify(places, processes)
    storage = Storage(places, environment, addresses.storage)
    reports = Reports(places, addresses, processes)
    secmaster = Secmaster(places, environment, addresses)
    backfill = Backfill(places, environment, addresses)
    keys = Keys(places, environment, addresses)
    return [
        archive.await_seal,
        archive.verify,
        rollup.rollup_hour,
        rollup.publish_day,
        verify.scrub_archive,
        verify.scrub_journal,
        verify.scrub_lake,
        verify.scrub_versions,
        verify.make_again,
        Quarantine(places).replay_quarantine,
        storage.probe_store,
        storage.await_rollup,
        storage.store_day,
        storage.find_expired,
        storage.retire,
        storage.restore,
        Days(places, addresses).look,
        reports.reporting,
        reports.measure,
        reports.deliver,
        secmaster.sync_instruments,
        secmaster.announce_changes,
        Fees(places, environment, addresses).sync_fees,
        backfill.plan_backfill,
        backfill.fill_window,
        backfill.close_windows,
        keys.list_keys,
        keys.verify_key,
    ]
