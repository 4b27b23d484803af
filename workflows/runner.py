"""What every worker, test and replay runs workflows with."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.publish_archive import PublishArchive
from workflows.replay_quarantine import ReplayQuarantine
from workflows.rollup_day import RollupDay
from workflows.sync_fees import SyncFees
from workflows.sync_secmaster import SyncSecmaster
from workflows.verify_archive import VerifyArchive

WORKFLOWS: list[type] = [RollupDay, VerifyArchive, ReplayQuarantine]
WORKFLOWS += [PublishArchive]
WORKFLOWS += [SyncSecmaster, SyncFees]


def runner() -> SandboxedWorkflowRunner:
    """The sandbox. `ssmd` and `activities` pass through it: loading duckdb or pyarrow twice aborts the process."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("ssmd", "activities")
    return SandboxedWorkflowRunner(restrictions=restrictions)
