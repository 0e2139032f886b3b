"""Ask a Kubernetes API server in plain HTTP and JSON, so that tests judge the product's client.

No SDK is used: what the product's own client gets wrong must not be wrong here in the same way.
"""

import asyncio
import http.client
import json
import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.real.waiting import wait_until

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML too

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Api:
    """One API server as its administrator sees it.

    ``api`` is the URL, ``ca`` the file of its certificate authority. The token is worth something
    only while the test cluster lives, on loopback.
    """

    api: str
    ca: Path
    admin_token: str
    state: Path
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(4, "cluster-api"), repr=False, compare=False
    )

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str | None = None,
        token: str | None = None,
    ) -> Answer:
        """Send one request and return status and decoded JSON (text when it is no JSON).

        A PATCH without a content type is a JSON merge patch. It never raises for a status.
        """
        kind = content_type or (MERGE_PATCH if method == "PATCH" else "application/json")
        headers = {"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": kind}
        where = urlsplit(self.api)
        trust = ssl.create_default_context(cafile=str(self.ca))
        link = http.client.HTTPSConnection(where.netloc, timeout=30, context=trust)
        try:
            link.request(method, path, None if body is None else json.dumps(body), headers)
            answer = link.getresponse()
            raw = answer.read()
        finally:
            link.close()
        if "json" in (answer.headers.get_content_type() or ""):
            return answer.status, json.loads(raw)
        return answer.status, raw.decode(errors="replace")

    async def arequest(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str | None = None,
        token: str | None = None,
    ) -> Answer:
        """Do the same from a thread of its own, so that the event loop stays free."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, self.request, method, path, body, content_type, token
        )

    def must(
        self, method: str, path: str, body: object = None, content_type: str | None = None
    ) -> Any:
        """Send a request as the administrator and return the answer; AssertionError if refused."""
        status, answer = self.request(method, path, body, content_type)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def namespace(self, prefix: str = "t") -> str:
        """Create a namespace of its own for a test and return its name.

        It waits for the default service account, without which pods are refused.
        """
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_until(lambda: self.request("GET", account)[0] == 200, f"{account}")
        return name

    def drop_namespace(self, name: str) -> None:
        """Ask for the end of a namespace and do not wait for it (it takes seconds).

        Guards on accounts that live in it end too: they are asked about every write there is.
        """
        for plural in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            path = f"/apis/admissionregistration.k8s.io/v1/{plural}"
            self.request("DELETE", f"{path}?labelSelector=responder.dev%2Fhome%3D{name}")
        self.request("DELETE", f"/api/v1/namespaces/{name}")

    def token_for(self, namespace: str, account: str, seconds: int = 3600) -> str:
        """Return a token of a service account, which is created when it does not exist.

        It has exactly the rights that a test bound to it: none at first.
        """
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        status, answer = self.request("POST", accounts, {"metadata": {"name": account}})
        assert status in (201, 409), answer
        asked = {"spec": {"expirationSeconds": seconds}}
        made = self.must("POST", f"{accounts}/{account}/token", asked)
        return str(made["status"]["token"])

    def kubeconfig(self, token: str | None = None) -> Path:
        """Write a kubeconfig file for a token (the administrator's when none) and return it."""
        cluster = {"server": self.api, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or self.admin_token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path = self.state / f"kubeconfig-{secrets.token_hex(4)}"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def close(self) -> None:
        """End the threads of ``arequest``."""
        self._pool.shutdown(wait=True)
