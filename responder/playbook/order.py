"""The order of steps: who is upstream of whom, and where `needs` goes round in a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["circle", "topological", "upstream"]


def topological(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Every step after all that it needs, otherwise in the order written.

    Steps on or behind a circle are left out.
    """
    done: dict[str, None] = {}
    progress = True
    while progress:
        progress = False
        for step, before in needs.items():
            if step not in done and all(one in done or one not in needs for one in before):
                done[step] = None
                progress = True
    return list(done)


def upstream(step: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    """All steps that have ended when this one begins."""
    found: set[str] = set()
    waiting = list(needs.get(step, ()))
    while waiting:
        one = waiting.pop()
        if one not in found and one in needs:
            found.add(one)
            waiting += needs[one]
    return found


def circle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """One circle, its first step repeated at the end; empty when there is none."""
    ordered = set(topological(needs))
    rest = [step for step in needs if step not in ordered]
    if not rest:
        return []
    path = [rest[0]]
    while True:
        # A step that is not ordered needs one that is not ordered: the walk must come round.
        following = next(one for one in needs[path[-1]] if one in needs and one not in ordered)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
