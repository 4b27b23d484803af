"""VerifyArchive: every byte that is kept of a day is looked at again."""

from datetime import timedelta

from temporalio import workflow

from activities.verify import Verify
from ssmd import jobs
from workflows.steps import dated, do, label, since


@workflow.defn
class VerifyArchive:
    """Read the day's archive, its journal and its tables, instruments and fees; make the tables again and compare."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, day: jobs.Scrub) -> jobs.Verified:
        day = dated(day)
        label(day)

        self._progress = jobs.Progress("reading the archive")
        archive = await do(Verify.scrub_archive, day, within=timedelta(hours=24))
        if archive == jobs.Scrubbed():
            self._progress = jobs.Progress("done: nothing is kept of that day")
            return jobs.Verified(day.feed, day.date, 0, False, 0, 0, 0, 0, 0, 0, 0, [])

        self._progress = jobs.Progress("reading the journal")
        journal = await do(Verify.scrub_journal, day, within=timedelta(hours=6))

        self._progress = jobs.Progress("reading the tables")
        lake = await do(Verify.scrub_lake, day, archive, within=timedelta(hours=24))

        versions = jobs.Scrubbed()
        if since("instruments and fees"):
            self._progress = jobs.Progress("reading instruments and fees")
            versions = await do(Verify.scrub_versions, day, within=timedelta(hours=6))

        self._progress = jobs.Progress("making the tables again", 0, len(lake.hours))
        again = []
        for made in workflow.as_completed(
            [
                do(
                    Verify.make_again,
                    jobs.Hour(day.feed, day.date, hour, lake.revision, day.store),
                    within=timedelta(hours=12),
                )
                for hour in lake.hours
            ]
        ):
            again.append(await made)
            self._progress = jobs.Progress("making the tables again", len(again), len(lake.hours))

        self._progress = jobs.Progress("done", len(again), len(again))
        parts = [archive, journal, lake, versions, *again]
        return jobs.Verified(
            feed=day.feed,
            date=day.date,
            revision=archive.revision,
            sealed=archive.sealed,
            frames=archive.frames,
            segments=archive.files,
            archive_bytes=archive.bytes,
            lake_files=lake.files,
            lake_bytes=lake.bytes,
            hours_made_again=len(again),
            journal_records=journal.frames,
            findings=sorted((f for part in parts for f in part.findings), key=lambda f: (f.path, f.where, f.what)),
            more=sum(part.more for part in parts),
            versions=versions.frames,
        )

    @workflow.query
    def progress(self) -> jobs.Progress:
        """How far the day is."""
        return self._progress
