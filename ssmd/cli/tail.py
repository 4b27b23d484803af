"""`ssmd tail`: what a feed says, as it says it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ssmd import written
from ssmd.cli import completing
from ssmd.errors import Permanent, Transient

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from ssmd.capnp import Message
    from ssmd.events import Event, Gap, Level

Channel = Literal["trade", "ticker", "book", "status"]

CHANNELS = ("trade", "ticker", "book", "status")
CONNECT_SECONDS = 5.0
TEXT_CHARACTERS_MAX = 100


def tail(
    feed: Annotated[
        str, typer.Argument(metavar="FEED", autocompletion=completing.feeds, help="The feed.", show_default=False)
    ],
    symbol: Annotated[str | None, typer.Option(help="Only this instrument.", show_default=False)] = None,
    channel: Annotated[Channel | None, typer.Option(help="Only these events.", show_default=False)] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many lines.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, times in ns.")] = False,
    name: Annotated[
        str | None, typer.Option(help="What subjects begin with, if not the environment.", show_default=False)
    ] = None,
    data: Annotated[Path, typer.Option("--data", help="The data folder.")] = Path("data"),
) -> None:
    """Show a feed's events as they happen, gaps among them.

    Example: ssmd tail kalshi --channel trade
    """
    import asyncio  # noqa: PLC0415

    from ssmd import config, service, subjects  # noqa: PLC0415

    addresses = service.addresses(data, None)
    environment = config.load_environment(addresses.environment)
    known = environment.feed(feed).feed
    here = [n.removeprefix("connector-") for n in addresses.telemetry if n.startswith("connector-")]
    if name is None and addresses.telemetry and known not in here:  # none: it runs on other machines
        running = ", ".join(here)
        raise Permanent(f"feed {known} does not run here, only {running}: start it with `ssmd up --feed {known}`")
    env = name or environment.name
    token = subjects.token(symbol) if symbol else "*"
    wanted = [f"{subjects.prefix(env, known)}.{channel or '*'}.{token}"]  # one, or their order is lost
    if symbol or channel not in {None, "status"}:
        wanted.append(subjects.normalized(env, known, "status", None))  # where gaps are told
    asyncio.run(_show(addresses.nats, wanted, count, json))


async def _show(url: str, wanted: list[str], count: int | None, json: bool) -> None:
    """Write what comes on these subjects to standard output."""
    import asyncio  # noqa: PLC0415

    from nats.errors import Error, SlowConsumerError  # noqa: PLC0415

    from ssmd import broker, capnp  # noqa: PLC0415
    from ssmd.events import Gap  # noqa: PLC0415

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    shown = 0

    def end(error: BaseException | None) -> None:
        if not ended.done():
            ended.set_exception(error) if error else ended.set_result(None)

    async def on_message(msg: "Msg") -> None:
        nonlocal shown
        if ended.done() or msg.subject.split(".")[-2] not in CHANNELS:
            return
        try:
            message = capnp.decode(msg.data)
            missing = isinstance(message.event, Gap)
            typer.secho(as_json(message) if json else as_line(message), fg="red" if missing else None)
        except capnp.Unreadable as e:
            end(Permanent(f"{msg.subject}: {e}: is the platform's ssmd newer than this one?"))
        except OSError as e:  # whoever read our lines has seen enough
            end(e)
        shown += 1
        if shown == count:
            end(None)

    async def on_error(error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            end(Transient("events come faster than they can be shown: ask for fewer with --symbol or --channel"))

    async def on_closed() -> None:
        end(Transient(f"NATS at {url} went away: when the platform runs again, start this again"))

    try:
        client = await broker.connect_once(url, "tail", CONNECT_SECONDS, error_cb=on_error, closed_cb=on_closed)
    except (Error, OSError, TimeoutError) as e:
        raise Transient(f"no NATS answers at {url} ({e or type(e).__name__}): start it with `ssmd up`") from e
    try:
        for subject in wanted:
            await client.subscribe(subject, cb=on_message)
        await ended
    finally:
        await client.close()


# ---------------------------------------------------------------------------------------------------------- lines


def as_json(message: "Message") -> str:
    """The message as it is; `kind` is what its `event` is."""
    import msgspec  # noqa: PLC0415

    fields = msgspec.structs.asdict(message)
    return msgspec.json.encode({"kind": _said(message.event)[0], **fields}).decode()


def as_line(message: "Message") -> str:
    """When we received it, of what, what it says."""
    kind, text = _said(message.event)
    symbol = getattr(message.event, "symbol", "")
    return f"{written.when(message.ts_recv)}  {kind:<13}  {symbol:<28}  {text}".rstrip()


def _said(event: "Event | Gap") -> tuple[str, str]:
    """What it is, and what it says in a few words."""
    from ssmd.events import BookDelta, BookSnapshot, Gap, Status, Ticker, Trade  # noqa: PLC0415

    match event:
        case Trade():
            return "trade", f"{event.price} x {event.size}  {event.side or ''}"
        case Ticker():
            told = [
                _quote("last", event.last, event.last_size),
                _quote("bid", event.bid, event.bid_size),
                _quote("ask", event.ask, event.ask_size),
                _quote("volume", event.volume, None),
                _quote("open interest", event.open_interest, None),
            ]
            return "ticker", "  ".join(text for text in told if text)
        case BookDelta():
            change = f"now {event.size}" if event.size is not None else _signed(event.change or "")
            return "book_delta", f"{event.side} {event.price}  {change}"
        case BookSnapshot():
            return "book_snapshot", f"{_side('bids', event.bids)}  {_side('asks', event.asks)}"
        case Status():
            return "status", f"{event.status}  {written.shortened(event.detail, TEXT_CHARACTERS_MAX)}"
        case Gap():
            end = "until now" if event.end is None else f"for {written.length(max(event.end - event.start, 0))}"
            whose = ", ".join(event.symbols) or "all"
            said = f"{event.cause} of {whose} since {written.when(event.start)}, {end}: {event.evidence}"
            return "gap", written.shortened(said, 3 * TEXT_CHARACTERS_MAX)


def _quote(name: str, price: str | None, size: str | None) -> str:
    return "" if price is None else f"{name} {price}" + (f" x {size}" if size is not None else "")


def _signed(change: str) -> str:
    return change if change.startswith("-") else f"+{change}"


def _side(name: str, levels: "list[Level]") -> str:
    best = f", best {levels[0][0]} x {levels[0][1]}" if levels else ""
    return f"{len(levels)} {name}{best}"
