"""One listing for all who wait for it: in a storm many proofs ask for the same at once.

A consistent listing says what is true at some moment after it was asked for. So whoever comes while
one is under way never gets that one, which may be older than the question: they get the next, all
of them the same. What it gives is shared, so nobody may change it.
"""

from __future__ import annotations

import asyncio

from integrations.kubernetes.client import Api, Json

__all__ = ["Listings"]

_Answer = asyncio.Future[list[Json]]


class Listings:
    """The listings of one cluster: of each path at most one is under way."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[_Answer]] = {}  # for the next listing of a path
        self._work: set[asyncio.Task[None]] = set()

    async def items(self, api: Api, path: str) -> list[Json]:
        """What is there, read by a listing that begins after this call. Raises what it raises."""
        answer: _Answer = asyncio.get_running_loop().create_future()
        if path in self._waiting:
            self._waiting[path].append(answer)
        else:
            self._waiting[path] = [answer]
            work = asyncio.create_task(self._serve(api, path))
            self._work.add(work)
            work.add_done_callback(self._work.discard)
        return await answer

    async def _serve(self, api: Api, path: str) -> None:
        """List for all who wait, again and again, until nobody does."""
        while answers := self._waiting[path]:
            self._waiting[path] = []
            try:
                found = await api.items(path)
            except Exception as error:  # noqa: BLE001 - it goes to everyone who asked
                _settle(answers, error)
            except BaseException:
                for answer in (*answers, *self._waiting.pop(path)):
                    answer.cancel()
                raise
            else:
                for answer in answers:
                    if not answer.done():
                        answer.set_result(found)
        del self._waiting[path]


def _settle(answers: list[_Answer], error: Exception) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
