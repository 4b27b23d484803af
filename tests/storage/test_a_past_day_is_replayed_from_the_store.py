"""`ssmd replay --data s3://…`: the same frames as from the data folder, and nothing damaged."""

import asyncio
import subprocess
from pathlib import Path

import nats
from nats.aio.msg import Msg

from activities.processes import Processes
from tests.conftest import NatsServer, S3Server
from tests.lake.archives import DATE, FEED
from tests.lake.captures import captured
from tests.storage.stores import Machine, Setting, damage


def test_the_store_and_the_folder_give_the_same_day(
    tmp_path: Path, s3_server: S3Server, nats_server: NatsServer
) -> None:
    with Processes(2) as processes:
        data = captured(tmp_path / "data", processes)
    setting = Setting(data, tmp_path / "config", s3_server, f"s3://ssmd-test/{tmp_path.name}")
    assert setting.ssmd("publish", FEED, DATE, "--local").returncode == 0
    machine = Machine(tmp_path / "machine", s3_server, setting.store.url)
    asked = ("replay", FEED, DATE, "--to", "nats", "--nats", nats_server.url, "--speed", "max")

    async def heard(data: str) -> tuple["subprocess.CompletedProcess[str]", list[tuple[str, bytes]]]:
        got: list[tuple[str, bytes]] = []

        async def on_message(msg: Msg) -> None:
            got.append((msg.subject, msg.data))

        client = await nats.connect(nats_server.url)
        await client.subscribe(f"replay.{FEED}.>", cb=on_message)
        await client.flush()
        done = await asyncio.to_thread(machine.ssmd, *asked, data=data)
        await client.flush()
        await client.drain()
        return done, got

    here, ours = asyncio.run(heard(str(data)))
    there, theirs = asyncio.run(heard(""))
    assert here.returncode == there.returncode == 0, here.stderr + there.stderr
    assert theirs == ours and len(ours) > 100
    segment = next(path for path, _ in setting.store.list(f"archive/{FEED}/{DATE}") if "trade_" in path)
    damage(setting.store, segment)
    refused, nothing = asyncio.run(heard(""))
    assert refused.returncode == 2 and nothing == []
    assert f"error: {setting.store.url}/{segment} is damaged" in refused.stderr and "Traceback" not in refused.stderr
