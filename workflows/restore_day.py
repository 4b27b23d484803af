"""RestoreDay: a day that retention removed here comes back from object storage."""

from datetime import timedelta

from temporalio import workflow

from activities.storage import Storage
from ssmd import jobs
from workflows.steps import dated, do, label


@workflow.defn
class RestoreDay:
    """Fetch what has moved, compare it with its hashes; from then on it is read here again."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, day: jobs.Restoration) -> jobs.Restored:
        day = dated(day)
        label(day)
        self._progress = jobs.Progress("fetching")
        restored = await do(Storage.restore, day, within=timedelta(hours=24))
        self._progress = jobs.Progress("done")
        return restored

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
