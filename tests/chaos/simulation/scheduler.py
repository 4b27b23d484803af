"""Time that passes only when told: one heap of events, and an asyncio event loop for each process on it."""

import asyncio
import contextlib
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any


class Killed(BaseException):
    """Raised inside a process at the very step where it dies."""


class Scheduler:
    """What happens next, and to whom. `now` is in seconds since the world began."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.steps = 0
        self.current: Loop | None = None
        self._heap: list[tuple[float, int, Loop | None, Any]] = []
        self._number = 0

    def at(self, when: float, callback: Callable[..., object], *args: object, loop: "Loop | None" = None) -> None:
        """Call back at `when`; with `loop`, as a callback of that process (and not if it is dead by then)."""
        if loop is not None:
            self.push(when, loop, asyncio.Handle(callback, args, loop))
        else:
            self.push(when, None, (callback, args))

    def after(self, seconds: float, callback: Callable[..., object], *args: object, loop: "Loop | None" = None) -> None:
        self.at(self.now + seconds, callback, *args, loop=loop)

    def push(self, when: float, loop: "Loop | None", what: Any) -> None:
        self._number += 1
        heapq.heappush(self._heap, (max(when, self.now), self._number, loop, what))

    def run_until(self, done: Callable[[], bool], deadline: float, steps_max: int = 400_000) -> bool:
        """Let events happen until `done()`; False if `deadline` passed or nothing is left to happen."""
        heap = self._heap
        while not done():
            if not heap or heap[0][0] > deadline:
                self.now = max(self.now, deadline)
                return done()
            self.steps += 1
            if self.steps > steps_max:
                raise AssertionError(f"the world does not come to rest: {steps_max} steps after {self.now:.1f} s")
            when, _, loop, what = heapq.heappop(heap)
            self.now = when
            if loop is None:
                what[0](*what[1])
            elif loop.stopped_until > when:
                self.push(loop.stopped_until, loop, what)
            elif not loop.dead and not what.cancelled():
                loop.step(what)
        return True


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process. Timers may be late and threads slow, as the world's seed has it."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self._scheduler = scheduler
        self.name = name
        self.dead = False
        self.stopped_from = self.stopped_until = 0.0  # SIGSTOP
        self.connect: Callable[..., Any] | None = None  # how this process opens a socket
        self.thread_seconds = (0.0, 0.01)
        self._tasks: list[asyncio.Task[Any]] = []

    def step(self, handle: asyncio.Handle) -> None:
        """Run one callback as this process."""
        before = self._scheduler.current
        self._scheduler.current = self
        running = events._get_running_loop()
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(running)
            self._scheduler.current = before

    def die(self) -> None:
        """End without another word: what its coroutines do on being torn down touches nothing."""
        self.dead = True
        before, self._scheduler.current = self._scheduler.current, self
        running = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()  # type: ignore[union-attr]
        finally:
            events._set_running_loop(running)
            self._scheduler.current = before

    # ---------------------------------------------------------------------------------- what asyncio asks of a loop

    def time(self) -> float:
        return self._scheduler.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._scheduler.push(self._scheduler.now, self, handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        late = self._scheduler.rng.random() * 0.003
        self._scheduler.push(when + late, self, handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._scheduler.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        if len(self._tasks) > 64:
            self._tasks = [t for t in self._tasks if not t.done()]
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """A thread: the function runs whole at some later step, its result arrives at a later one still."""
        future = self.create_future()
        rng = self._scheduler.rng
        low, high = self.thread_seconds

        def work() -> None:
            try:
                result, error = func(*args), None
            except Killed:
                return
            except BaseException as e:
                result, error = None, e
            self._scheduler.after(rng.uniform(low, high), answer, result, error, loop=self)

        def answer(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._scheduler.after(rng.uniform(low, high), work, loop=self)
        return future

    async def create_connection(self, factory: Any, host: Any = None, port: Any = None, **kwargs: Any) -> Any:
        assert self.connect is not None
        return await self.connect(factory)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, Killed) and not self.dead:
            self.unhandled(error)

    def unhandled(self, error: BaseException) -> None:
        """An exception that asyncio would only log."""
