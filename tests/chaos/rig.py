"""The platform's parts as processes of a test: started one by one, kept alive, found healthy, brought to rest."""

import contextlib
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from ssmd.up import servers
from tests.ports import HOST, free_port

from .accounts import Account, account

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = Path(__file__).with_name("without.py")


_LIBC = ctypes.CDLL(None)


def _die_with_us() -> None:
    """In the child: PR_SET_PDEATHSIG, so that nothing is left running when a test is killed."""
    _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)


@dataclass
class Part:
    """One process, started again when it ends, as long as it is kept."""

    name: str
    command: list[str]
    log: Path
    variables: dict[str, str]
    port: int = 0  # of its /health
    process: subprocess.Popen[bytes] | None = None
    kept: bool = True
    starts: int = 0
    due: float = 0.0  # of the next start
    codes: list[int] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | self.variables,
                start_new_session=True,
                preexec_fn=_die_with_us,  # noqa: PLW1509  # it makes one system call
            )
        self.starts += 1

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def ask(self, path: str) -> tuple[int, Any]:
        """Its HTTP answer; (0, None) if it gives none within a second."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=1) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)
        except (OSError, ValueError):
            return 0, None

    @property
    def healthy(self) -> bool:
        """As its supervisor sees it: a dead or silent process is not."""
        return self.alive and self.ask("/health")[0] == 200


class Platform:
    """NATS, simulator, archiver, connector (and more on demand) of one test, in one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        rate: float,
        feed: str = "kalshi",
        channels: Sequence[str] = (),
        faults: str = "",
        markets: int = 12,
        commit_seconds: float = 0.2,
        silence_seconds: float | None = None,
        without: dict[str, str] | None = None,
        disk: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        """`disk` is where journal, archive and NATS store are; logs and the truth stay in `folder`."""
        self.folder = folder
        self.feed = feed
        self.capture = (disk or folder) / "capture"  # the connector's data folder: its journal
        self.keep = (disk or folder) / "keep"  # the archiver's data folder: its archive
        self.store = (disk or folder) / "nats"
        self.truth = folder / "truth.ndjson"
        self.chance = random.Random(seed)
        self.parts: dict[str, Part] = {}
        self.ports = {name: free_port() for name in ("nats", "monitor", "venue")}
        self.via = dict(self.ports)  # which port a client uses: a proxy's, if there is one
        self._rate, self._seed, self._markets, self._faults = rate, seed, markets, faults
        self._without = without or {}
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._keeper = threading.Thread(target=self._keep_alive, daemon=True)
        self._configure(list(channels), commit_seconds, silence_seconds)
        self._variables |= variables or {}

    # ------------------------------------------------------------------------------------------------ configuration

    def _configure(self, channels: list[str], commit_seconds: float, silence_seconds: float | None) -> None:
        """The real feed, unsigned, in an environment of its own."""
        config = self.folder / "config"
        for name in ("feeds", "environments"):
            (config / name).mkdir(parents=True, exist_ok=True)
        feed = yaml.safe_load((ROOT / f"exchanges/feeds/{self.feed}.yaml").read_text())
        for version in feed["versions"]:
            version["signed"] = False
            if silence_seconds is not None:
                version["silence_seconds"] = silence_seconds
        (config / f"feeds/{self.feed}.yaml").write_text(yaml.safe_dump(feed))
        endpoint = feed["versions"][-1]["endpoints"]["production"]
        self._paths = {name: urlsplit(endpoint[name]).path for name in ("ws", "rest")}
        plan: dict[str, Any] = {"feed": self.feed, "endpoint": "simulator", "channels": channels}
        archiving = {"commit_seconds": commit_seconds, "rotate_seconds": 20}
        environment = {"name": "chaos", "feeds": [plan], "archiving": archiving}
        (config / "environments/chaos.yaml").write_text(yaml.safe_dump(environment))
        self._variables = {"SSMD_CONFIG": str(config), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}

    def write_addresses(self, temporal: str = "") -> None:
        """Where each service finds its peers; connector and archiver may go through different proxies."""
        venue = f"{HOST}:{self.via['venue']}"
        for data, nats in ((self.capture, "connector-nats"), (self.keep, "archiver-nats")):
            (data / "run").mkdir(parents=True, exist_ok=True)
            addresses = {
                "environment": "chaos",
                "nats": f"nats://{HOST}:{self.via.get(nats, self.ports['nats'])}",
                "temporal": temporal,
                "temporal_ui": "",
                "feeds": {
                    self.feed: {
                        "ws": f"ws://{venue}{self._paths['ws']}",
                        "rest": f"http://{venue}{self._paths['rest']}",
                    }
                },
                "telemetry": {},
                "supervisor": os.getpid(),
            }
            (data / "run/addresses.json").write_text(json.dumps(addresses))

    def _service(self, name: str, data: Path, *more: str, feed: bool = True) -> Part:
        port = free_port()
        start = [sys.executable, "-m", f"services.{name}"]
        if name in self._without:
            start = [sys.executable, str(WITHOUT), self._without[name], f"services.{name}"]
        options = ["--data", str(data), "--port", str(port), *(["--feed", self.feed] if feed else []), *more]
        return self._part(name, [*start, *options], port)

    def _part(self, name: str, command: list[str], port: int = 0) -> Part:
        part = Part(name, command, self.folder / f"{name}.log", self._variables, port)
        with self._lock:
            self.parts[name] = part
            part.start()
        return part

    # ---------------------------------------------------------------------------------------------------- starting

    def start_nats(self) -> None:
        self._part("nats", self._nats_command())

    def _nats_command(self) -> list[str]:
        """Writes its configuration, too."""
        return servers.nats_command(
            servers.find_binary("nats-server"), self.store, self.ports["nats"], self.ports["monitor"]
        )

    def nats_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.ports['monitor']}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def start_simulator(self, *more: str) -> None:
        options = ["--listen", str(self.ports["venue"]), "--truth", str(self.truth), "--seed", str(self._seed)]
        options += ["--rate", str(self._rate), "--markets", str(self._markets)]
        options += ["--faults", self._faults] if self._faults else []
        self._service("simulator", self.capture, *options, *more)

    def start_archiver(self) -> None:
        self._service("archiver", self.keep)

    def start_connector(self, *more: str) -> None:
        self._service("connector", self.capture, *more)

    def start_worker(self) -> None:
        """And the Temporal server that it serves."""
        port, ui = free_port(), free_port()
        command = servers.temporal_command(servers.find_binary("temporal"), self.folder / "temporal", port, ui)
        self._part("temporal", command)
        self.write_addresses(f"{HOST}:{port}")
        self._service("worker", self.capture, feed=False)
        self.until(lambda: self.parts["worker"].ask("/ready")[0] == 200, "the worker is ready")

    def start(self) -> "Platform":
        """All four, ready."""
        self.write_addresses()
        self.start_nats()
        self.start_simulator()
        self.start_archiver()
        self.start_connector()
        self._keeper.start()
        self.until(lambda: self.status("connector").get("frames"), "the first frame is captured")
        self.until(lambda: self.status("archiver").get("archived"), "the first frame is archived")
        return self

    def _keep_alive(self) -> None:
        while not self._done.wait(0.02):
            with self._lock:
                for part in self.parts.values():
                    if not part.kept or part.alive:
                        continue
                    now = time.monotonic()
                    if part.due == 0.0:
                        assert part.process is not None
                        part.codes.append(part.process.returncode)
                        pause = 1.0 if part.process.returncode == 74 else self.chance.uniform(0.02, 0.2)
                        part.due = now + pause
                    elif now >= part.due:
                        part.due = 0.0
                        part.start()

    # ------------------------------------------------------------------------------------------------------ asking

    def status(self, name: str) -> dict[str, Any]:
        return self.parts[name].ask("/status")[1] or {}

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
        """Wait; how long it took, in seconds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"within {seconds:.0f} s it did not come about that {what}\n{self.logs()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def logs(self) -> str:
        """The last lines of every log."""
        told = []
        for part in self.parts.values():
            lines = part.log.read_text(errors="replace").splitlines()[-6:] if part.log.exists() else []
            told += [f"--- {part.name}: exit codes {part.codes[-8:]}", *(line[:400] for line in lines)]
        return "\n".join(told)

    def flowing(self, why: str, seconds: float = 60.0) -> float:
        """Wait until frames come from the venue to the archive again; how long it took."""
        archived = self.status("archiver").get("archived", 0)
        frames = self.status("connector").get("frames", 0)

        def flows() -> bool:
            return bool(
                self.status("archiver").get("archived", 0) > archived + 200
                and self.status("connector").get("frames", 0) > frames + 200
            )

        return self.until(flows, f"frames flow again after {why}", seconds)

    # ---------------------------------------------------------------------------------------------------- stopping

    def kill(self, *names: str) -> None:
        """kill -9, all at once; they stay dead until `revive`."""
        with self._lock:
            for name in names:
                self.parts[name].kept = False
                self.parts[name].signal(signal.SIGKILL)

    def dead(self, *names: str) -> None:
        """Wait until they are."""
        for name in names:
            process = self.parts[name].process
            assert process is not None
            process.wait(30)

    def revive(self, *names: str) -> None:
        """Start them, on the disk as it is now."""
        self.write_addresses()
        self._nats_command()
        with self._lock:
            for name in names:
                self.parts[name].kept = True

    def end(self, name: str, seconds: float = 20.0) -> int:
        """SIGTERM, and wait for its end; its exit code."""
        part = self.parts[name]
        part.kept = False
        time.sleep(0.03)
        assert part.process is not None
        part.signal(signal.SIGCONT)
        part.signal(signal.SIGTERM)
        try:
            return part.process.wait(seconds)
        except subprocess.TimeoutExpired:
            part.signal(signal.SIGKILL)
            raise AssertionError(f"{name} did not stop within {seconds:.0f} s\n{self.logs()}") from None

    def rest(self, seconds: float = 90.0) -> None:
        """The venue falls silent first, then everything it sent comes to the archive; then all end in order."""
        for part in self.parts.values():
            part.signal(signal.SIGCONT)

        def caught_up() -> bool:
            connector = self.status("connector")
            return bool(connector) and not connector["unconfirmed"] and not connector["catching_up"]

        self.until(lambda: self.status("connector").get("connected"), "the connector is connected", seconds)
        self.end("simulator")
        self.until(lambda: self.status("connector").get("connected") is False, "the connector sees the venue's end")
        self.until(caught_up, "NATS has all that was captured", seconds)
        self.end("connector")
        quiet = 0
        began = time.monotonic()
        while quiet < 8 and time.monotonic() - began < seconds:
            status = self.status("archiver")
            quiet = quiet + 1 if status and not status["pending"] and not status["buffered_bytes"] else 0
            time.sleep(0.15)
        assert self.end("archiver", 30) == 0, self.logs()

    def account(self, *, without_ledger: bool = False) -> Account:
        return account(self.truth, self.keep / "archive", without_ledger=without_ledger)

    def close(self) -> None:
        self._done.set()
        for part in self.parts.values():
            part.kept = False
        for part in self.parts.values():
            part.signal(signal.SIGKILL)
            if part.process is not None:
                part.process.wait()


@contextlib.contextmanager
def platform(folder: Path, **options: Any) -> Iterator[Platform]:
    """A platform that is gone afterwards, whatever happens."""
    made = Platform(folder, **options)
    try:
        yield made
    finally:
        made.close()
