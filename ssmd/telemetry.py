"""What a service tells of itself over HTTP: /health, /ready, /metrics (Prometheus), /status (JSON for `ssmd up`)."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

RED_SECONDS = 2.0  # two looks of `ssmd up`


class Telemetry:
    """A service's metrics and its health.

    `problems` lists, in words, what is wrong now (healthy: nothing); `waiting` what it still waits for before
    it is ready; `status` the figures the status screen shows. All three are asked at each request.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.problems: Callable[[], list[str]] = list
        self.waiting: Callable[[], list[str]] = list
        self.status: Callable[[], dict[str, object]] = dict
        self._server: Server | None = None

    async def last_words(self, error: Exception) -> None:
        """Stay red for a moment with why the process is about to end, so that whoever watches can read it."""
        self.problems = lambda: [str(error)]
        await asyncio.sleep(RED_SECONDS)

    def gauges(self, prefix: str, read: Callable[[], dict[str, int]]) -> None:
        """Export what `read` returns as gauges `{prefix}_{key}`, asked at each scrape."""
        self.registry.register(_Figures(prefix, read))

    async def serve(self, host: str, port: int) -> int:
        """Listen; `port` 0 takes a free one. Returns the port."""
        self._server = await serve(self._never, host, port, process_request=self._answer, logger=_quiet())
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _never(self, connection: ServerConnection) -> None:
        """Every request is answered before a WebSocket could open."""

    def _answer(self, connection: ServerConnection, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path == "/metrics":
            return response(HTTPStatus.OK, generate_latest(self.registry), "text/plain; version=0.0.4")
        if path == "/health":
            return self._verdict(self.problems())
        if path == "/ready":
            return self._verdict(self.problems() + self.waiting())
        if path == "/status":
            return response(HTTPStatus.OK, msgspec.json.encode(self.status()))
        return response(HTTPStatus.NOT_FOUND, b'{"error":"there is /health, /ready, /metrics and /status"}')

    def _verdict(self, wrong: list[str]) -> Response:
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        return response(status, msgspec.json.encode({"service": self.service, "ok": not wrong, "problems": wrong}))


class _Figures(Collector):
    """Figures a service keeps anyway, as Prometheus gauges."""

    def __init__(self, prefix: str, read: Callable[[], dict[str, int]]) -> None:
        self._prefix = prefix
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for key, value in self._read().items():
            gauge = GaugeMetricFamily(f"{self._prefix}_{key}", key.replace("_", " "))
            gauge.add_metric([], value)
            yield gauge


def response(
    status: HTTPStatus, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """An HTTP answer for `process_request` of a websockets server."""
    usual = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    return Response(status.value, status.phrase, Headers({**usual, **(headers or {})}), body)


def _quiet() -> logging.Logger:
    logger = logging.getLogger("ssmd.http")
    logger.setLevel(logging.CRITICAL)
    return logger


def configure_logging(level: int = logging.INFO, **bound: object) -> structlog.typing.FilteringBoundLogger:
    """JSON lines on stderr, one object an event, with `bound` in each."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**bound)
    return logger
