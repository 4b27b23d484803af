"""What a run did, in a few lines at its end."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ssmd import archive, frames, jobs
from ssmd.errors import Permanent
from ssmd.up.proof import Proof
from ssmd.up.status import duration, size
from ssmd.up.wanted import Wanted
from ssmd.up.watch import Watch

# What is where if one of these did not end by itself.
LEFT = {"connector": "frames that NATS has not taken are in journal/", "archiver": "frames are in nats/"}


@dataclass
class FeedSummary:
    """What became of one feed: the days rolled up, and how what was sent compares with what is archived."""

    tape: int = 0
    days: dict[str, jobs.RolledUp] = field(default_factory=dict)
    proof: Proof | None = None


class Summary:
    """Filled in while a run goes on, told when all of it has stopped."""

    def __init__(self, wanted: Wanted, watch: Watch, began: float) -> None:
        self.ready_seconds: float | None = None
        self.feeds: dict[str, FeedSummary] = {}
        self._wanted = wanted
        self._watch = watch
        self._began = began

    @property
    def missing(self) -> str:
        """What is wrong with the archive, in one sentence; empty if nothing is."""
        for name, feed in self.feeds.items():
            p = feed.proof
            if p is not None and not p.holds:
                return (
                    f"the archive of {name} is not what was sent: {p.missing:,} recorded frames are missing, "
                    f"{p.changed:,} differ, {p.twice:,} are there twice; the evidence is in {self._wanted.data}"
                )
        return ""

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        seconds = time.time() - self._began
        ready = "" if self.ready_seconds is None else f", ready after {self.ready_seconds:.1f} s"
        yield f"ran for {seconds:.1f} s{ready}" if seconds < 60 else f"ran for {duration(seconds)}{ready}"
        for source in self._wanted.sources:
            yield from self._feed(source.name)
        peaks = [f"{name} {size(p.peak_bytes)}" for name, p in self._watch.processes.items() if p.peak_bytes]
        if peaks:
            yield f"peak memory: {', '.join(peaks)}"
        restarted = {n: p.restarts for n, p in self._watch.processes.items() if p.restarts}
        if restarted:
            yield "restarts: " + ", ".join(f"{name} {count}" for name, count in restarted.items())
        yield f"data: {self._wanted.data} (archive/ lake/ logs/)"

    def _feed(self, name: str) -> Iterator[str]:
        told = self.feeds.get(name, FeedSummary())
        manifests = self._manifests(name, told)
        if told.proof is not None:
            yield f"{name}: {_proved(told.proof)}"
            yield "  per channel: " + ", ".join(f"{c} {k:,}" for c, k in told.proof.channels.items())
        else:
            yield f"{name}: {self._archived(manifests):,} frames archived"
            yield from self._unfinished(name)
            for m in manifests:
                yield f"  {m.date} in all: " + ", ".join(f"{c} {k:,}" for c, k in Counter(m.counts).most_common())
        gaps, holes = sum(len(m.gaps) for m in manifests), sum(not m.whole for m in manifests)
        if manifests:
            yield f"  gaps in the ledger: {gaps}" + (f"; {holes} days have unexplained holes" if holes else "")
        for date, rolled in told.days.items():
            rows = ", ".join(f"{table} {count:,}" for table, count in rolled.rows.items() if count)
            yield f"  {date} rolled up (revision {rolled.revision}): {rows or 'no rows'}"

    def _unfinished(self, feed: str) -> Iterator[str]:
        for part in self._watch.parts:
            process = self._watch.processes.get(part.name)
            if part.feed != feed or part.kind not in LEFT or process is None:
                continue
            if process.last_exit != 0:
                yield f"  {part.name} did not end by itself: {LEFT[part.kind]}, and the next `ssmd up` archives them"
            if part.kind == "connector" and not process.was_ready:
                yield f"  {part.name} was never connected: logs/{part.name}.log tells why"

    def _archived(self, manifests: list[archive.Manifest]) -> int:
        """Frames of the connections that this run opened, our own rows included."""
        opened = int(self._began * 1000)
        return sum(c.frames for m in manifests for c in m.connections if frames.opened_ms(c.conn) >= opened)

    def _manifests(self, feed: str, told: FeedSummary) -> list[archive.Manifest]:
        """Of the days rolled up, or of those that were written to since the start."""
        found = []
        folder = self._wanted.data / "archive"
        for path in sorted((folder / feed).glob("????-??-??/manifest.json")):
            try:
                touched = path.stat().st_mtime >= self._began
                if path.parent.name in told.days or (not told.days and touched):
                    found.append(archive.load_manifest(path))
            except (OSError, Permanent):
                continue  # a summary does not fail; readers of that day will say what is wrong
        return found


def _proved(p: Proof) -> str:
    """The comparison with what was sent, in words."""
    told = [f"{p.sent:,} frames sent, {p.archived:,} archived"]
    if p.tape:
        told.append(f"{p.tape - p.missing:,} of the recording's {p.tape:,}")
    told.append("each once and byte for byte" if p.holds else f"{p.missing:,} missing, {p.changed:,} changed")
    if p.twice:
        told.append(f"{p.twice:,} twice")
    if p.cut_off:
        told.append(f"{p.cut_off:,} were on their way when a connection ended")
    return ", ".join(told)
