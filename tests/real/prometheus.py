"""Start a real Prometheus that watches one page of figures and reports to an Alertmanager.

It listens on loopback only and looks every second. https://prometheus.io/docs/prometheus/latest/
"""

import contextlib
import json
import os
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.real.missing import unavailable
from tests.real.waiting import wait_until
from tests.real.workshop import Workshop, free_port, sweep

PROGRAM = "prometheus"
METRIC = "shells_in_containers"


@dataclass
class Figures:
    """A page of one gauge for each set of labels, as an exporter serves it."""

    values: dict[str, float] = field(default_factory=dict)

    def set(self, labels: Mapping[str, str], value: float) -> None:
        """What the page says from now on."""
        inner = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
        self.values = {**self.values, f"{METRIC}{{{inner}}}": value}

    @property
    def page(self) -> bytes:
        """The page in Prometheus's text form."""
        lines = [f"# TYPE {METRIC} gauge", *(f"{key} {n}" for key, n in self.values.items())]
        return ("\n".join(lines) + "\n").encode()


@contextlib.contextmanager
def exporter(figures: Figures) -> Iterator[str]:
    """Serve the figures on loopback for the length of a block; gives ``host:port``."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(figures.page)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


@contextlib.contextmanager
def prometheus(alertmanager_url: str, figures: Figures, severity: str) -> Iterator[None]:
    """Run a Prometheus for the length of a block; skip or fail when it is not installed.

    A gauge above nought fires ``ShellInContainer`` with its labels. It is given away only once the
    page has been read: before that no change of a figure would be seen as one.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/bin"
    if not shutil.which(PROGRAM, path=path):
        unavailable(f"{PROGRAM} is missing: run `make setup`")
    sweep()
    shop = Workshop("p")
    try:
        with exporter(figures) as page:
            _start(shop, path, _settings(shop, page, alertmanager_url, severity))
            yield
    finally:
        shop.close()


def _settings(shop: Workshop, page: str, alertmanager_url: str, severity: str) -> str:
    rule = {
        "alert": "ShellInContainer",
        "expr": f"{METRIC} > 0",
        "labels": {"severity": severity},
        "annotations": {"summary": "a shell in {{ $labels.pod }}"},
    }
    (shop.path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "shells", "interval": "1s", "rules": [rule]}]})
    )
    target = urllib.parse.urlsplit(alertmanager_url).netloc
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(shop.path / "rules.yml")],
        "scrape_configs": [
            {"job_name": "shells", "honor_labels": True, "static_configs": [{"targets": [page]}]}
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]},
    }
    return json.dumps(settings)  # JSON is YAML too


def _start(shop: Workshop, path: str, settings: str) -> None:
    file = shop.path / "prometheus.yml"
    file.write_text(settings)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        PROGRAM,
        f"--config.file={file}",
        f"--storage.tsdb.path={shop.path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        f"--web.external-url={url}",
        "--rules.alert.resend-delay=1s",
    ]
    child = shop.start("prometheus", command, {"PATH": path})

    def reads_the_page() -> bool:
        assert child.poll() is None, f"Prometheus ended: {shop.log('prometheus')}"
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query?query=up", timeout=2) as answer:
                found = json.loads(answer.read())["data"]["result"]
        except (urllib.error.URLError, OSError):
            return False
        return any(one["value"][1] == "1" for one in found)

    wait_until(reads_the_page, "Prometheus to read the page", 30)
