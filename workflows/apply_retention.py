"""ApplyRetention: what is published and verified, and older than is kept here, is removed here."""

from datetime import timedelta

from temporalio import workflow

from activities.storage import Storage
from ssmd import jobs
from workflows.steps import do

KEPT_TOLD_MAX = 50


@workflow.defn
class ApplyRetention:
    """Find what is old; day by day, look whether the store has it whole, now, and only then remove it here."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, retention: jobs.Retention) -> jobs.Retained:
        self._progress = jobs.Progress("probing the store")
        store = await do(Storage.probe_store, within=timedelta(hours=1))

        self._progress = jobs.Progress("looking for what is old")
        expired = await do(Storage.find_expired, retention, within=timedelta(hours=1))

        retired = []
        for day in expired:
            doing = "verifying" if day.dry_run else "verifying and removing"
            self._progress = jobs.Progress(f"{doing} {day.kind} {day.feed} {day.date}")
            retired.append(await do(Storage.retire, day, within=timedelta(hours=12)))

        self._progress = jobs.Progress("done")
        gone = [r for r in retired if r.files]
        kept = [r for r in retired if r.kept]
        return jobs.Retained(
            environment=retention.environment,
            dry_run=retention.dry_run,
            store=store,
            days=len({(r.feed, r.date) for r in gone}),
            files=sum(r.files for r in gone),
            bytes=sum(r.bytes for r in gone),
            kept=kept[:KEPT_TOLD_MAX],
            more=len(kept[KEPT_TOLD_MAX:]),
        )

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
