"""How an environment's day is: what its services say, and what is on disk."""

import contextlib

import httpx
import msgspec
from temporalio import activity

from activities.archive import check_day, passed
from activities.together import go_on
from ssmd import archive, config, jobs, tables
from ssmd.errors import Permanent

ASK_SECONDS = 2.0


class Days:
    """A data folder, and the services that fill it."""

    def __init__(self, places: config.Places, addresses: config.Addresses) -> None:
        self._places = places
        self._addresses = addresses

    @activity.defn(no_thread_cancel_exception=True)
    def look(self, day: jobs.TradingDay) -> list[jobs.FeedSeen]:
        """Every feed that runs here. Raises Permanent if this worker serves another one, or for no date."""
        if day.environment != self._addresses.environment:
            raise Permanent(
                f"this worker serves the environment {self._addresses.environment}, not {day.environment!r}: "
                "start the day there"
            )
        feeds = config.feeds_run(config.environment_of(self._addresses), self._addresses)
        with httpx.Client(trust_env=False, timeout=ASK_SECONDS) as client:
            return [self._look(client, feed, day.date) for feed in feeds]

    def _look(self, client: httpx.Client, feed: str, date: str) -> jobs.FeedSeen:
        check_day(jobs.Day(feed, date))
        doing = f"looking at {feed} {date}"
        activity.heartbeat(jobs.Progress(doing))
        go_on(doing)
        connector = self._status(client, f"connector-{feed}")
        archiver = self._status(client, f"archiver-{feed}")
        manifest, lake_day, empty, trouble = archive.Manifest(feed, date), None, False, ""
        try:
            with contextlib.suppress(FileNotFoundError):
                manifest = archive.load_manifest(archive.manifest_path(self._places.archive, feed, date))
            with contextlib.suppress(FileNotFoundError):
                lake_day = tables.load_day(self._places.lake / tables.manifest_path(feed, date))
            empty = not manifest.revision and passed(self._places.archive, feed, date)
        except Permanent as e:  # damage is a matter of this feed, and no reason to lose sight of the others
            trouble = str(e)
        gaps = None if connector is None else connector.get("gaps_open")
        return jobs.FeedSeen(
            feed=feed,
            connected=None if connector is None else bool(connector.get("connected")),
            archiving=None if archiver is None else bool(archiver),
            gaps_open=gaps if isinstance(gaps, int) else None,
            frames=max(manifest.frames, _frames(archiver, date)),
            sealed=manifest.sealed,
            revision=manifest.revision,
            rolled_up=0 if lake_day is None else lake_day.revision,
            empty=empty,
            trouble=trouble,
        )

    def _status(self, client: httpx.Client, service: str) -> dict[str, object] | None:
        """What a service says of itself: nothing if it is silent, None if it is not known where it would say it."""
        where = self._addresses.telemetry.get(service)
        if where is None:
            return None
        try:
            return msgspec.json.decode(client.get(f"{where}/status").content, type=dict[str, object])
        except (httpx.HTTPError, msgspec.DecodeError):
            return {}


def _frames(archiver: dict[str, object] | None, date: str) -> int:
    """What the archiver has of a day, finished segments or not."""
    days = (archiver or {}).get("days")
    found = [d for d in days if isinstance(d, dict) and d.get("date") == date] if isinstance(days, list) else []
    return int(found[0].get("frames", 0)) if found else 0
