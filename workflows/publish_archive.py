"""PublishArchive: a rolled-up day goes to object storage."""

from datetime import timedelta

from temporalio import workflow

from activities.storage import Storage
from ssmd import jobs
from workflows.steps import dated, do, label


@workflow.defn
class PublishArchive:
    """Wait until the day is rolled up, then store its segments and tables, read them back, and tell readers of it."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, day: jobs.Publication) -> jobs.Published:
        day = dated(day)
        label(day)

        self._progress = jobs.Progress("probing the store")
        await do(Storage.probe_store, within=timedelta(hours=1))

        self._progress = jobs.Progress("waiting until the day is rolled up")
        revision = await do(Storage.await_rollup, day, within=timedelta(days=3))
        if day.if_any and not revision:
            self._progress = jobs.Progress("done: nothing is archived of that day")
            return jobs.Published(day.feed, day.date, "", 0, 0, 0, 0)

        self._progress = jobs.Progress("publishing")
        published = await do(Storage.store_day, day, revision, within=timedelta(hours=24))

        self._progress = jobs.Progress("done")
        return published

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
