"""Start a real Alertmanager that calls a web hook, and hand it alerts.

The API is https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml. It listens on
loopback only (the package's default is every interface) and has no gossip port.
"""

import contextlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.real.missing import unavailable
from tests.real.waiting import wait_until
from tests.real.workshop import Workshop, free_port, sweep

PROGRAM = "prometheus-alertmanager"


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager at ``url``."""

    url: str

    def fire(self, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> None:
        """Report an alert as firing; the hook is called as soon as its group is flushed."""
        self._post({"labels": dict(labels), "annotations": dict(annotations or {})})

    def resolve(
        self, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
    ) -> None:
        """Report the alert with these labels as over."""
        body = {"labels": dict(labels), "annotations": dict(annotations or {})}
        self._post(body | {"endsAt": datetime.now(UTC).isoformat()})

    def _post(self, alert: Mapping[str, object]) -> None:
        asked = urllib.request.Request(
            f"{self.url}/api/v2/alerts",
            data=json.dumps([alert]).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.status == 200


@contextlib.contextmanager
def alertmanager(
    hook_url: str,
    *,
    token: str = "",
    group_by: Sequence[str] = ("alertname", "pod"),
    group_interval: str = "1s",
    repeat_interval: str = "1h",
) -> Iterator[Alertmanager]:
    """Run an Alertmanager for the length of a block; skip or fail when it is not installed.

    ``token`` is sent as a bearer token. A group's first notification leaves at once.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/bin"
    if not shutil.which(PROGRAM, path=path):
        unavailable(f"{PROGRAM} is missing: run `make setup`")
    sweep()
    shop = Workshop("a")
    try:
        hook: dict[str, object] = {"url": hook_url, "send_resolved": True}
        if token:
            hook["http_config"] = {"authorization": {"type": "Bearer", "credentials": token}}
        route = {
            "receiver": "hook",
            "group_by": list(group_by),
            "group_wait": "0s",
            "group_interval": group_interval,
            "repeat_interval": repeat_interval,
        }
        receivers = [{"name": "hook", "webhook_configs": [hook]}]
        settings = json.dumps({"route": route, "receivers": receivers})
        yield _start(shop, settings, path)
    finally:
        shop.close()


def _start(shop: Workshop, settings: str, path: str) -> Alertmanager:
    file = shop.path / "alertmanager.yml"
    file.write_text(settings)  # JSON is YAML too
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        PROGRAM,
        f"--config.file={file}",
        f"--storage.path={shop.path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        f"--web.external-url={url}",
        "--cluster.listen-address=",
    ]
    child = shop.start("alertmanager", command, {"PATH": path})

    def ready() -> bool:
        assert child.poll() is None, f"Alertmanager ended: {shop.log('alertmanager')}"
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    wait_until(ready, "Alertmanager")
    return Alertmanager(url)


AlertmanagerFactory = Callable[..., Alertmanager]
