"""VerifyKeys: is every key of an environment there, well-formed, and accepted by its venue?"""

from datetime import timedelta

from temporalio import workflow

from activities.keys import Keys
from ssmd import jobs
from workflows.steps import do, label


@workflow.defn
class VerifyKeys:
    """Ask every venue, side by side."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("looking for keys")

    @workflow.run
    async def run(self, keys: jobs.Keys) -> jobs.VerifiedKeys:
        label(keys)
        named = await do(Keys.list_keys, keys, within=timedelta(hours=1))
        self._progress = jobs.Progress(f"asking {len(named)} venues")
        checked = []
        for one in workflow.as_completed([do(Keys.verify_key, key, within=timedelta(hours=1)) for key in named]):
            checked.append(await one)
        self._progress = jobs.Progress("done")
        environment = named[0].environment if named else keys.environment
        return jobs.VerifiedKeys(environment, sorted(checked, key=lambda c: (c.state == "accepted", c.feed)))

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
