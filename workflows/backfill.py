"""Backfill: the trades that gaps swallowed are fetched from the venue, archived, and rolled up."""

from datetime import timedelta

from temporalio import workflow

from activities.backfill import Backfill as Filling
from ssmd import jobs
from ssmd.events import UNREPAIRABLE
from workflows.rollup_day import RollupDay
from workflows.steps import do, have_done, label

FAILED_MAX = 20  # told in the result, which must stay small


@workflow.defn
class Backfill:
    """Fill window by window, oldest first; then roll the days anew that have changed."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("looking for gaps")

    @workflow.run
    async def run(self, missing: jobs.Missing) -> jobs.Backfilled:
        label(missing)
        planned = await do(Filling.plan_backfill, missing, within=timedelta(hours=1))

        filled: list[jobs.Filled] = []
        for window in planned.windows:
            self._progress = jobs.Progress(f"asking the venue, {len(filled) + 1} of {len(planned.windows)}")
            filled.append(await do(Filling.fill_window, window, within=timedelta(hours=12)))

        dates = sorted({date for one in filled for date in one.dates})
        for date in dates:
            self._progress = jobs.Progress(f"rolling up {date} anew")
            day = jobs.Day(missing.feed, date, seal=True)
            await have_done(RollupDay, day, jobs.RolledUp, f"{day.rollup_id}/{missing.backfill_id}")

        await do(Filling.close_windows, planned.windows, within=timedelta(hours=1))
        self._progress = jobs.Progress("done")
        failed = [one.failed for one in filled if one.failed]
        repaired = [one for one in filled if one.repair]
        beyond = sum(len(one.gaps) for one in repaired if one.repair.startswith(UNREPAIRABLE))
        return jobs.Backfilled(
            feed=missing.feed,
            trades=sum(one.trades for one in filled),
            repaired=sum(len(one.gaps) for one in repaired) - beyond,
            unrepairable=beyond,
            rolled_up=dates,
            failed=failed[:FAILED_MAX],
            more=planned.more,
        )

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
