"""SyncFees: what trading costs is read from a feed's venue."""

from datetime import timedelta

from temporalio import workflow

from activities.fees import Fees
from ssmd import jobs
from workflows.steps import do, label


@workflow.defn
class SyncFees:
    """Read the venue's fees and write down what changed."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("reading the fees")

    @workflow.run
    async def run(self, job: jobs.FeeListing) -> jobs.Synced:
        label(job)
        synced = await do(Fees.sync_fees, job, within=timedelta(hours=6))
        self._progress = jobs.Progress("done")
        return synced

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
