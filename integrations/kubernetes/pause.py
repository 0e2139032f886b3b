"""The pause switch in the cluster: a ConfigMap's key stops new changes.

It works without this product's own doors: `kubectl patch configmap … -p '{"data":{"pause":"…"}}'`.
A switch that cannot be read counts as on once the last reading is old: better to wait than to act
against somebody's stop.
"""

from __future__ import annotations

from integrations.kubernetes.client import Api
from integrations.kubernetes.paths import named
from responder.errors import NotFound, ResponderError
from responder.text import cut, for_terminal

__all__ = ["PauseSwitch"]

_FRESH = 0.5  # seconds: a stop must be heard within one
_TRUSTED = 30.0  # seconds that an old "go" still counts while the API server cannot be asked
_OFF = {"", "false", "0", "no", "off"}


class PauseSwitch:
    """Reads one ConfigMap's key `pause`; never writes."""

    def __init__(self, api: Api, place: str) -> None:
        self._api = api
        self._place = place
        namespace, _, name = place.partition("/")
        self._path = named("ConfigMap", namespace, name)
        self._said = ""
        self._read = float("-inf")

    async def __call__(self) -> str:
        """Why changes must wait, or nothing. Asks at most twice a second."""
        clock = self._api.connection.world.clock
        if clock.monotonic() - self._read < _FRESH:
            return self._said
        try:
            self._said = await self._ask()
        except ResponderError as error:
            if clock.monotonic() - self._read < _TRUSTED:
                return self._said
            return f"the pause switch cannot be read: {error}"
        self._read = clock.monotonic()
        return self._said

    async def unread(self) -> str:
        """Why the switch cannot be read now, or nothing."""
        try:
            await self._ask()
        except ResponderError as error:
            return f"the pause switch cannot be read: {error}"
        return ""

    async def _ask(self) -> str:
        try:
            found = await self._api.get(self._path)
        except NotFound:
            return ""
        word = str((found.get("data") or {}).get("pause") or "").strip()
        if word.lower() in _OFF:
            return ""
        shown = for_terminal(cut(word, 200))
        return f"ConfigMap {self._place} in cluster {self._api.cluster} says pause: {shown}"
