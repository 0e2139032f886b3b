"""Deliveries of the forge's double: signed as GitHub signs, and once, twice or never as told.

https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Hook:
    """Where the double sends `workflow_run` to. ``times`` 0 loses every delivery, 2 repeats it."""

    url: str
    secret: str
    times: int = 1
    answers: list[int] = field(default_factory=list)

    async def deliver(self, action: str, run: dict[str, Any]) -> None:
        """Send one event; what the receiver answers is kept, GitHub does not send again."""
        body = json.dumps(
            {"action": action, "workflow_run": run, "repository": run["repository"]}
        ).encode()
        mark = hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "workflow_run",
            "X-GitHub-Delivery": f"{run['id']}-{run['run_attempt']}-{action}",
            "X-Hub-Signature-256": f"sha256={mark}",
        }
        async with aiohttp.ClientSession() as session:
            for _ in range(self.times):
                async with session.post(self.url, data=body, headers=headers) as answer:
                    self.answers.append(answer.status)
