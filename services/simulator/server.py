"""The simulated venue on a port: WebSocket and REST, subscriptions, resumes, heartbeats, a clean end."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event

from exchanges.port import HearsPings, Simulator
from services.simulator.faults import Faults
from services.simulator.line import Line, Sent
from services.simulator.player import MarketPlayer, TapePlayer
from ssmd.durable import Appender
from ssmd.errors import Permanent
from ssmd.recorded_time import ServerRecordedTimeFactory
from ssmd.telemetry import response

HOST = "127.0.0.1"
PARTIAL_SECONDS = 5.0  # a client that does not subscribe to all that the tape holds is waited for so long
RESUME_SECONDS = 10.0  # and one that came back to resume, but does not subscribe
PAST_MAX = 64  # ended connections whose frames are remembered
COMMAND_BYTES_MAX = 1 << 20
WRITE_BYTES = 1 << 20  # in the transport before we wait
LOOK_SECONDS = 0.05  # while waiting for the end of the tape
FAREWELL_SECONDS = 60.0  # for a client to read what its socket holds once the tape is over: 4 MB at most
CLOSE_SECONDS = 1.5  # for the closing handshake: the whole stop takes less than 2

_NAME = re.compile(r"[0-9A-Za-z_.:-]{1,100}")
_RESUME = re.compile(r"([0-9A-Za-z_.:-]{1,100}) ([0-9a-f]{8}|none)")


_POST_BYTES_MAX = 64 << 10
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,6}) *(?=\r\n|$)", re.IGNORECASE)


class _Connection(ServerConnection):
    """Tells of the pings that it answers by itself, and takes a POST's body, which websockets does not."""

    on_ping: Callable[[], None] | None = None
    body = b""
    _post: bytes | None = b""  # what came so far; None: it is no POST, or all of it came

    def data_received(self, data: bytes) -> None:
        if self._post is not None:
            self._post += data
            post, self._post = self._post, None
            if post.startswith(b"POST "):
                head, end, body = post.partition(b"\r\n\r\n")
                length = _LENGTH.search(head)
                if len(post) < _POST_BYTES_MAX and (not end or (length and len(body) < int(length[1]))):
                    self._post = post
                    return
                self.body, post = body, _LENGTH.sub(b"", head) + end
            data = post
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        if self.on_ping is not None and isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.on_ping()
        super().process_event(event)


class SimulatorServer:
    """Hosts one simulator."""

    def __init__(
        self,
        simulator: Simulator,
        player: Callable[[Callable[[], list[Line]]], TapePlayer | MarketPlayer],
        truth: Appender | None,
        wall_ns: Callable[[], int],
        recorded: bool,
        log: structlog.typing.FilteringBoundLogger,
        faults: Faults | None = None,
    ) -> None:
        self._simulator = simulator
        self._truth = truth
        self._faults = faults
        self._wall_ns = wall_ns
        self._recorded = recorded
        self._log = log
        self._lines: dict[str, Line] = {}
        self._past: OrderedDict[str, Sent] = OrderedDict()
        self.player = player(lambda: list(self._lines.values()))
        self._connected = 0
        self._sent = 0
        self._played = 0
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._farewells: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen and play. Returns the port. Raises Permanent if it is taken."""
        quiet = logging.getLogger("ssmd.simulator.websockets")
        quiet.setLevel(logging.CRITICAL)  # clients that come and go badly are what a simulator is for
        try:
            self._server = await serve(
                self._serve,
                HOST,
                port,
                process_request=self._answer,
                create_connection=_Connection,
                extensions=[ServerRecordedTimeFactory()] if self._recorded else None,
                compression=None,
                ping_interval=None,
                close_timeout=CLOSE_SECONDS,
                max_size=COMMAND_BYTES_MAX,
                write_limit=WRITE_BYTES,
                logger=quiet,
            )
        except OSError as e:
            raise Permanent(f"the simulator cannot listen on port {port}: {e.strerror or e}; name another") from e
        self._tasks = [asyncio.create_task(self.player.play()), asyncio.create_task(self._beat())]
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def wait(self, stop: asyncio.Event, *ends: Awaitable[object]) -> None:
        """Until `stop` is set, or one of `ends` comes. What goes wrong (a damaged tape, a full disk) is raised."""
        stopped = asyncio.create_task(stop.wait())
        ending = [asyncio.ensure_future(end) for end in ends]
        done, _ = await asyncio.wait([stopped, *ending, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, *ending):
            task.cancel()
        for task in done - {stopped}:
            await task

    async def played_out(self) -> None:
        """Until the tape is over and every client has read all of it; then say good-bye to them, patiently."""
        player = self.player
        assert isinstance(player, TapePlayer)
        while not player.done or any(line.unsent_bytes for line in self._lines.values()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)  # nobody is told when a socket has taken all
        leaving = [line.ws for line in self._lines.values()]
        for ws in leaving:
            ws.close_timeout = FAREWELL_SECONDS
        await asyncio.gather(*(ws.close(CloseCode.GOING_AWAY) for ws in leaving))

    @property
    def played(self) -> int:
        """Frames of market data that were sent, to all clients together."""
        return self._played + sum(line.played for line in self._lines.values())

    async def close(self) -> None:
        """Say good-bye to every client (1001), then stop listening."""
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
            try:
                async with asyncio.timeout(CLOSE_SECONDS + 0.2):
                    await self._server.wait_closed()
            except TimeoutError:
                for line in self._lines.values():
                    line.ws.transport.abort()
        if self._truth is not None:
            self._truth.close()

    # ------------------------------------------------------------------------------------------------------ REST

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        path = request.path.partition("?")[0]
        if path != self._simulator.ws_path:
            assert isinstance(connection, _Connection)
            now_ns = self._wall_ns()
            answer = self._simulator.answer(request.method, request.path, headers, now_ns, connection.body)
            told = {"Date": formatdate(now_ns / 1e9, usegmt=True), **answer.headers}
            return response(HTTPStatus(answer.status), answer.body, headers=told)
        refused = self._simulator.refuses("GET", path, headers, self._wall_ns())
        return None if refused is None else response(HTTPStatus(refused.status), refused.body, headers=refused.headers)

    # ------------------------------------------------------------------------------------------------- WebSocket

    async def _serve(self, ws: ServerConnection) -> None:
        assert ws.request is not None
        self._connected += 1
        name = ws.request.headers.get("Ssmd-Connection", "")
        if not _NAME.fullmatch(name) or name in self._lines or name in self._past:
            name = f"simulator-{self._connected}"
        try:
            line = await self._open(ws, name, ws.request.headers.get("Ssmd-Resume", ""))
            self._log.info("client connected", conn=name, tape_from=line.sent.start)
            await self._converse(line)
        except ConnectionClosed as e:
            self._log.info("client gone", conn=name, reason=str(e))
        finally:
            self._forget(name)
            self._consider()

    def _forget(self, name: str) -> None:
        """No more frames for this connection; what it was sent is remembered for a resume."""
        line = self._lines.pop(name, None)
        if line is None:
            return
        self._sent += line.n
        self._played += line.played
        self._past[name] = line.sent
        while len(self._past) > PAST_MAX:
            self._past.popitem(last=False)

    async def _open(self, ws: ServerConnection, name: str, resume: str) -> Line:
        """Where the tape goes on for this client: where it stands, or after the last frame that the client has."""
        player = self.player
        grammar = self._simulator.connect()
        if isinstance(grammar, HearsPings):
            assert isinstance(ws, _Connection)
            ws.on_ping = lambda: grammar.pinged(self._wall_ns())
        found = _RESUME.fullmatch(resume)
        if not isinstance(player, TapePlayer):
            line = self._lines[name] = Line(ws, grammar, name, 0, self._truth, self._faults)
            return line
        former = self._former(found[1]) if found else None
        if found is None or former is None:
            if found is not None:
                self._log.warning("unknown connection to resume: the tape goes on where it stands", conn=found[1])
            line = self._lines[name] = Line(ws, grammar, name, player.position, self._truth, self._faults)
            return line
        start = former.after(None if found[2] == "none" else int(found[2], 16))
        line = self._lines[name] = Line(ws, grammar, name, start, self._truth, self._faults)
        line.resumed_at = asyncio.get_running_loop().time()
        self._consider()
        await player.wind_to(start)
        return line

    def _former(self, name: str) -> Sent | None:
        """What an earlier connection was sent. If it is still open its client has given it up: so do we."""
        alive = self._lines.get(name)
        if alive is not None:
            alive.ws.transport.abort()
            self._forget(name)
        return self._past.get(name)

    async def _converse(self, line: Line) -> None:
        while True:
            wire = await line.ws.recv(decode=False)
            answers = line.grammar.received(wire, self._wall_ns())
            if not line.silent(self._wall_ns()):
                line.put(answers, self.player.now_ns())
            line.flush()
            if line.subscribed_at is None and line.grammar.subscriptions:
                line.subscribed_at = asyncio.get_running_loop().time()
            self._consider()
            if line.grammar.ended is not None:
                await self._end(line, *line.grammar.ended)
                return
            await line.drain()

    async def _end(self, line: Line, code: int, reason: str) -> None:
        if code == CloseCode.ABNORMAL_CLOSURE:
            line.ws.transport.abort()
        else:
            await line.ws.close(code, reason)

    def _consider(self) -> None:
        """Let the tape run while somebody listens to all of it, and nobody is on the way back to it."""
        player = self.player
        if not isinstance(player, TapePlayer):
            return
        now = asyncio.get_running_loop().time()
        lines = self._lines.values()
        for line in lines:
            line.ready = line.grammar.subscriptions > 0 and (
                line.ready
                or line.grammar.covers(player.contents.instruments)
                or (line.subscribed_at is not None and now - line.subscribed_at >= PARTIAL_SECONDS)
            )
            if line.resumed_at is not None and (line.ready or now - line.resumed_at >= RESUME_SECONDS):
                line.resumed_at = None
        listening = any(line.ready for line in lines)
        awaited = any(line.resumed_at is not None for line in lines)
        if listening and not awaited and not player.winding:
            if not player.done:
                player.playing.set()
        else:
            player.pause()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._consider()
            for line in list(self._lines.values()):
                self._beat_one(line, self._wall_ns())

    def _beat_one(self, line: Line, now_ns: int) -> None:
        """What the passing of time makes the venue send, or makes it end; a silent line ends, but says nothing."""
        body, due = line.grammar.heartbeat(now_ns), line.grammar.due(now_ns)
        if not line.silent(now_ns):
            if body is not None:
                line.ping(body)
            line.put(due, self.player.now_ns())
            line.flush()
        if line.grammar.ended is not None:
            farewell = asyncio.create_task(self._end(line, *line.grammar.ended))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    # ---------------------------------------------------------------------------------------------------- figures

    def status(self) -> dict[str, object]:
        lines = self._lines.values()
        player = self.player
        tape = None
        if isinstance(player, TapePlayer):
            contents = player.contents
            tape = {"frames": contents.frames, "sent": player.sent, "done": player.done, "first_ns": contents.first_ns}
        return {
            "connections": len(lines),
            "sent": self._sent + sum(line.n for line in lines),
            "tape": tape,
            "faults": self._faults.count if self._faults is not None else 0,
            "unsent_bytes": sum(line.unsent_bytes for line in lines),
        }

    def figures(self) -> dict[str, int]:
        """The same for Prometheus."""
        lines = self._lines.values()
        return {
            "connections": len(lines),
            "faults": self._faults.count if self._faults is not None else 0,
            "frames_sent": self._sent + sum(line.n for line in lines),
            "unsent_bytes": sum(line.unsent_bytes for line in lines),
        }
