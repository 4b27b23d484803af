"""RollupDay: a sealed day of frames becomes a day of tables."""

from datetime import timedelta

from temporalio import workflow

from activities.archive import Archive
from activities.rollup import Rollup
from ssmd import jobs
from workflows.steps import dated, do, label


@workflow.defn
class RollupDay:
    """Wait until the day is sealed, verify it, roll up its hours side by side, publish them together."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, day: jobs.Day) -> jobs.RolledUp:
        day = dated(day)
        label(day)

        self._progress = jobs.Progress("waiting until the day is sealed")
        revision = await do(Archive.await_seal, day, within=timedelta(days=3))
        if day.if_any and not revision:
            self._progress = jobs.Progress("done: nothing is archived of that day")
            return jobs.RolledUp(day.feed, day.date, 0, "", 0, {}, {})

        self._progress = jobs.Progress("verifying the archive")
        sealed = await do(Archive.verify, day, within=timedelta(hours=6))

        self._progress = jobs.Progress("rolling up", 0, len(sealed.hours))
        hours = []
        for rolled in workflow.as_completed(
            [
                do(Rollup.rollup_hour, jobs.Hour(day.feed, day.date, hour, sealed.revision), within=timedelta(hours=12))
                for hour in sealed.hours
            ]
        ):
            hours.append(await rolled)
            self._progress = jobs.Progress("rolling up", len(hours), len(sealed.hours))

        self._progress = jobs.Progress("publishing", len(hours), len(hours))
        published = await do(Rollup.publish_day, sealed, hours, within=timedelta(hours=1))

        self._progress = jobs.Progress("done", len(hours), len(hours))
        return published

    @workflow.query
    def progress(self) -> jobs.Progress:
        """How far the day is."""
        return self._progress
