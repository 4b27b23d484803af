"""SweepGaps: every gap of an environment that nobody has tried to repair is tried."""

from datetime import timedelta

from temporalio import workflow

from activities.backfill import Backfill as Filling
from ssmd import jobs
from workflows.backfill import FAILED_MAX, Backfill
from workflows.steps import do, have_done


@workflow.defn
class SweepGaps:
    """Look which feeds have such gaps, and backfill one after the other."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("looking for gaps")

    @workflow.run
    async def run(self, sweep: jobs.Sweep) -> jobs.Swept:
        feeds = await do(Filling.feeds_with_gaps, sweep, within=timedelta(hours=1))
        done: list[jobs.Backfilled] = []
        for feed in feeds:
            self._progress = jobs.Progress(f"backfilling {feed}", len(done), len(feeds))
            missing = jobs.Missing(feed)
            done.append(await have_done(Backfill, missing, jobs.Backfilled, f"{missing.backfill_id}/swept"))
        self._progress = jobs.Progress("done", len(done), len(feeds))
        return jobs.Swept(
            feeds=feeds,
            trades=sum(one.trades for one in done),
            repaired=sum(one.repaired for one in done),
            unrepairable=sum(one.unrepairable for one in done),
            failed=[sentence for one in done for sentence in one.failed][:FAILED_MAX],
        )

    @workflow.query
    def progress(self) -> jobs.Progress:
        """How many feeds are done."""
        return self._progress
