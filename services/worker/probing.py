"""The probe of the object store at a worker's start: what is wrong with it is told until it is right."""

import asyncio
from collections.abc import Callable

import structlog

from ssmd import storage
from ssmd.errors import SsmdError
from ssmd.storage import Store

AGAIN_SECONDS = 30.0


class Probing:
    """Tries the store once it is there, and says meanwhile why nothing can be published to it."""

    def __init__(self, open_store: Callable[[], Store], log: structlog.typing.FilteringBoundLogger) -> None:
        self._open_store = open_store
        self._log = log
        self._wrong = ""

    async def run(self) -> None:
        """Until the store is found to be as it must be."""
        while True:
            try:
                url = await asyncio.to_thread(self._probe)
            except SsmdError as e:
                if str(e) != self._wrong:
                    self._log.error("nothing can be published", problem=str(e))
                self._wrong = str(e)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._wrong = ""
                self._log.info("the store is as it must be", store=url)
                return

    def problems(self) -> list[str]:
        return [self._wrong] if self._wrong else []

    def _probe(self) -> str:
        store = self._open_store()
        storage.probe(store)
        return store.url
