"""Say that a real part is missing: a skip on a desk, a failure in CI."""

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """End the test with the reason: as failed when ``CI`` is set, else as skipped.

    It never lets CI pass by skipping.
    """
    if os.environ.get("CI"):
        pytest.fail(f"a real part is missing: {reason}", pytrace=False)
    pytest.skip(reason)


def optional(reason: str) -> NoReturn:
    """Skip with the reason, in CI too.

    Only for a part that proves again what tests without it prove, and that a machine of the usual
    kind does not have; never for the one proof of anything.
    """
    pytest.skip(f"an optional part is missing: {reason}")
