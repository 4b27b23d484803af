"""Every recorded history replays: a change that would strand running workflows is found here.

After a change that is meant, gate it with `workflow.patched`, and record the new history beside the old one:
SSMD_RECORD=1 pytest tests/workflows
"""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from activities.archive import Archive
from ssmd import jobs
from workflows.runner import WORKFLOWS, runner
from workflows.steps import do, label

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def history(path: Path) -> WorkflowHistory:
    text = path.read_text()
    [first, *_] = json.loads(text)["events"]
    return WorkflowHistory.from_json(first["workflowExecutionStartedEventAttributes"]["workflowId"], text)


def test_every_workflow_has_a_history() -> None:
    assert {w.__name__ for w in WORKFLOWS} == {
        history(path).events[0].workflow_execution_started_event_attributes.workflow_type.name for path in HISTORIES
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda p: p.name)
async def test_history_replays(path: Path) -> None:
    await Replayer(workflows=WORKFLOWS, workflow_runner=runner()).replay_workflow(history(path))


@workflow.defn(name="RollupDay", sandboxed=False)
class Hasty:
    """The control: RollupDay without its wait for the seal."""

    @workflow.run
    async def run(self, day: jobs.Day) -> jobs.RolledUp:
        label(day)
        await do(Archive.verify, day, within=timedelta(hours=6))
        raise AssertionError("a replay does not come so far")


async def test_a_changed_order_does_not_replay() -> None:
    path = next(p for p in HISTORIES if p.stem == "rollup_day")
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[Hasty], workflow_runner=runner()).replay_workflow(history(path))
