"""The parts of a measurement as processes: started, asked, weighed (CPU, memory), ended."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from bench import corpus
from ssmd.up import servers

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".bench"  # on the disk of the tree: where /tmp is memory, syncing would cost nothing
HOST = "127.0.0.1"
ENV, FEED = "bench", "kalshi"
POLL_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_PDEATHSIG = 1
_CPUCLOCK_SCHED = 2


class Failed(Exception):
    """Why a part cannot be measured, in one sentence."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


def filesystem() -> str:
    """What kind of filesystem the scratch folder is on: on a tmpfs, syncing costs nothing."""
    place = SCRATCH.parent.resolve()
    kinds = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        kinds[where] = kind
    return next(kinds[str(p)] for p in (place, *place.parents) if str(p) in kinds)


def environment() -> dict[str, str]:
    """As a user has it: this tree's modules, and compiled only once."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {"PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, or, if we are killed, when the next one is asked for."""
    SCRATCH.mkdir(exist_ok=True)
    for left in SCRATCH.iterdir():
        if not Path("/proc", left.name.partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=SCRATCH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0, poll: float = POLL_SECONDS) -> Any:
    """Wait for something true and return it. Raises Failed after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"within {seconds:.0f} s it did not come about that {what}")
        time.sleep(poll)
    return found


def die_with_parent() -> None:
    """In a child: nothing is left running, however its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Part:
    """One process. Its stdin takes lines, its stdout gives them; stderr goes to a log."""

    def __init__(self, name: str, command: list[str], folder: Path, variables: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=environment() | (variables or {}),
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # it makes one system call
                text=True,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def told(self, word: str, seconds: float = 60.0) -> list[str]:
        """The rest of its next line, which must begin with `word`. Raises Failed."""
        assert self.process.stdout is not None
        with _deadline(self, word, seconds):
            line = self.process.stdout.readline().split()
        if line[:1] != [word]:
            raise Failed(f"{self.name} said {' '.join(line) or 'nothing'} instead of {word}: {self.last_words()}")
        return line[1:]

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "nothing in its log"

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    @property
    def memory_bytes(self) -> int:
        """Resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    @property
    def peak_bytes(self) -> int:
        """The most that it and the processes it started were resident with, each at its own worst moment."""
        return sum(peak_bytes(pid) for pid in session(self.pid))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


def cpu_seconds(pid: int) -> float:
    """Of all threads a process has or had, user and system: its CPU clock, see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rsplit(")", 1)[1].split()[3]) == leader:
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def _deadline(part: Part, word: str, seconds: float) -> Iterator[None]:
    """Reading a pipe has no timeout of its own: an alarm ends it."""

    def ring(*_: object) -> None:
        raise Failed(f"{part.name} did not say {word} within {seconds:.0f} s: {part.last_words()}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Service(Part):
    """One of ours, with its HTTP port."""

    def __init__(self, name: str, data: Path, config: Path, through: Sequence[str] = ()) -> None:
        """`through`: a module and its arguments that are to run the service."""
        self.port = free_port()
        module = [*through, f"services.{name}"]
        command = [sys.executable, "-m", *module, "--data", str(data), "--port", str(self.port)]
        super().__init__(name, [*command, "--feed", FEED], data, {"SSMD_CONFIG": str(config)})

    def get(self, path: str) -> tuple[int, Any]:
        """Its answer; (0, {}) if it gives none."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, {}
        except (OSError, ValueError):
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.last_words()}") from None
            return 0, {}

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.get("/status")[1])

    @property
    def ready(self) -> bool:
        return self.get("/ready")[0] == 200


class Blaster(Part):
    """The venue: frames from a corpus at a given rate."""

    def __init__(self, folder: Path, frames: corpus.Corpus) -> None:
        path = corpus.save(frames, folder / "corpus.msgpack")
        super().__init__("blaster", [sys.executable, "-m", "bench.blaster", str(path)], folder)
        self.opening = len(frames.opening)
        self.port = int(self.told("port")[0])
        self.url = f"ws://{HOST}:{self.port}/trade-api/ws/v2"

    def send(self, count: int, rate: float = 0) -> None:
        """Returns at once; `sent` waits for the end."""
        self.order(f"{count} {rate}")

    def sent(self, seconds: float = 120.0) -> int:
        """Wait until the last frame has gone out; when the first one did, in ns of the monotonic clock."""
        first, _ = map(int, self.told("sent", seconds))
        return first


class Nats(Part):
    """A server with an empty store."""

    def __init__(self, folder: Path) -> None:
        self.port, self._monitor = free_port(), free_port()
        command = servers.nats_command(servers.find_binary("nats-server"), folder / "nats", self.port, self._monitor)
        super().__init__("nats", command, folder)
        self.url = f"nats://{HOST}:{self.port}"
        until(self._healthy, "nats-server is healthy", 20)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._monitor}/healthz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def messages(self) -> int:
        """How many its streams hold."""
        with urllib.request.urlopen(f"http://{HOST}:{self._monitor}/jsz", timeout=5) as answer:
            return int(json.load(answer)["messages"])


def configure(folder: Path, nats: Nats, blaster: Blaster | None, symbols: list[str]) -> Path:
    """The feed as it ships, but unsigned, in an environment of its own; addresses for `folder` as data folder."""
    config = folder / "config"
    for name in ("feeds", "environments"):
        (config / name).mkdir(parents=True, exist_ok=True)
    feed = yaml.safe_load((ROOT / f"exchanges/feeds/{FEED}.yaml").read_text())
    for version in feed["versions"]:
        version["signed"] = False
    (config / f"feeds/{FEED}.yaml").write_text(yaml.safe_dump(feed))
    plan = {"feed": FEED, "endpoint": "simulator", "channels": list(corpus.CHANNELS), "symbols": {"names": symbols}}
    (config / f"environments/{ENV}.yaml").write_text(yaml.safe_dump({"name": ENV, "feeds": [plan]}))
    address = {"ws": blaster.url, "rest": f"http://{HOST}:{blaster.port}"} if blaster is not None else None
    addresses = {
        "environment": ENV,
        "nats": nats.url,
        "temporal": "",
        "temporal_ui": "",
        "feeds": {FEED: address} if address else {},
        "telemetry": {},
        "supervisor": os.getpid(),
    }
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run/addresses.json").write_text(json.dumps(addresses))
    return config


class Connector(Service):
    """Ours, connected and with the opening acknowledged."""

    def __init__(self, data: Path, config: Path, blaster: Blaster, through: Sequence[str] = ()) -> None:
        super().__init__("connector", data, config, through)
        blaster.told("connected")
        until(lambda: self.caught_up(blaster.opening), "the connector has the opening acknowledged")

    def caught_up(self, frames: int) -> bool:
        """Whether it has received so many frames in all, and JetStream has acknowledged each."""
        status = self.status
        return bool(status) and status["frames"] >= frames <= status["acked"] and not status["catching_up"]
