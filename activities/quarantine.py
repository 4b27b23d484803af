"""Quarantined frames, given a second chance by today's grammar."""

import importlib
from collections import Counter

from temporalio import activity
from temporalio.exceptions import CancelledError

from activities.replay import read_lines, second_chance
from exchanges.port import Unparsable, Venue
from ssmd import archive, config, frames, jobs

REASONS_MAX = 100  # the answer travels through Temporal and must stay small
REASON_CHARACTERS_MAX = 200


class Quarantine:
    """The quarantined frames under a data folder."""

    def __init__(self, places: config.Places) -> None:
        self._places = places

    @activity.defn(no_thread_cancel_exception=True)
    def replay_quarantine(self, day: jobs.Quarantined) -> jobs.Replayed:
        """Say how many of a day's quarantined frames would parse now; nothing is changed."""
        feed = config.load_feed(day.feed)
        venue: Venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        grammar = venue.events(day.date)
        manifest = archive.load_manifest(archive.manifest_path(self._places.archive, day.feed, day.date))
        folder = archive.day_folder(self._places.archive, day.feed, day.date)
        segments = [s for s in manifest.segments if s.channel == frames.BAD]
        doing, total = f"replaying the quarantine of {day.feed} {day.date}", sum(s.records for s in segments)
        counts: Counter[str] = Counter()
        good: dict[str, Counter[str]] = {}
        for segment in segments:
            archive.check_segment(folder / segment.name, segment)
            for lines in read_lines(folder / segment.name):
                for line in lines:
                    reason = (line.reason or "no reason given")[:REASON_CHARACTERS_MAX]
                    counts[reason] += 1
                    try:
                        channel, _ = second_chance(venue, grammar, line)
                    except Unparsable:
                        continue
                    good.setdefault(reason, Counter())[channel] += 1
                activity.heartbeat(jobs.Progress(doing, counts.total(), total))
                if activity.is_cancelled():
                    raise CancelledError(f"{doing}: cancelled")
        listed = sorted(counts, key=lambda reason: (-counts[reason], reason))[:REASONS_MAX]
        return jobs.Replayed(
            feed=day.feed,
            date=day.date,
            frames=counts.total(),
            parse_now=sum(c.total() for c in good.values()),
            reasons=[jobs.SecondChance(r, counts[r], dict(sorted(good.get(r, Counter()).items()))) for r in listed],
            more=counts.total() - sum(counts[r] for r in listed),
        )
