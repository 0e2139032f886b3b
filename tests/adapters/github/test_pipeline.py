"""`pipeline.run` from plan to verdict against a forge that checks what it is asked."""

from tests.adapters.github.world import IMAGE, a_call, bench


async def test_a_run_ends_with_the_digest_that_pipeline_and_registry_agree_on() -> None:
    """Plan, apply, poll and verify over real HTTP; one dispatch, one digest."""
    async with bench() as b:
        call = a_call()
        done = await b.to_end(call)
        verdict = await b.action.verify(call, await b.action.plan(call), done.result)
        assert done.result["image"] == f"{IMAGE}@{done.result['digest']}"
        assert done.result["run"] == 4711
        assert verdict.level == "enforced"
        assert b.dispatched() == 1
