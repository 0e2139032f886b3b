"""What the tests of `deployment.record` share, whichever forge it tells."""

from dataclasses import dataclass
from typing import Any

from responder.errors import StepRetry
from responder.model import Plan
from responder.ports import Action, Call, Done
from tests.adapters.github.world import IMAGE, a_call
from tests.doubles.faults import LIMITS, Fault
from tests.doubles.leaping import Leaping

__all__ = ["LOST", "NEW", "SAFE", "Desk"]

NEW = f"sha256:{'7' * 64}"
LOST = [Fault.ERROR_AFTER, Fault.RESET_AFTER, Fault.SLOW_AFTER]
NOT_ACTED = [Fault.ERROR_BEFORE, Fault.RESET_BEFORE, Fault.SLOW_BEFORE]
SAFE = [*NOT_ACTED, *sorted(LIMITS, key=lambda fault: fault.name)]


@dataclass
class Desk:
    """The action, and the ways in which the engine calls it."""

    action: Action
    clock: Leaping

    def call(self, state: str, **changes: Any) -> Call:
        """Return the call of a step that tells one state."""
        params = {"image": f"{IMAGE}@{NEW}", "state": state, **changes.pop("params", {})}
        values: dict[str, Any] = {"action": "deployment.record", "key": f"run_1/{state}"}
        return a_call(**{**values, "run": "run_1", "step": state, "params": params, **changes})

    async def tell(self, state: str, **changes: Any) -> Done:
        """Plan, apply and verify one state."""
        call = self.call(state, **changes)
        plan = await self.action.plan(call)
        done = await self.action.apply(call, plan)
        assert isinstance(done, Done)
        await self.action.verify(call, plan, done.result)
        return done

    async def trying(self, call: Call, plan: Plan, tries: int = 6) -> Done:
        """Apply as the engine does after each temporary failure, until it is done."""
        began = self.clock.now()
        for attempt in range(1, tries + 1):
            again = self.call(call.step, attempt=attempt, resumed=attempt > 1, started=began)
            try:
                done = await self.action.apply(again, plan)
            except StepRetry as later:
                self.clock.leap(later.after)
                continue
            assert isinstance(done, Done)
            return done
        raise AssertionError("it never ended")
