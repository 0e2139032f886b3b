"""GET of a pod's log: what the pretend kubelet wrote for this or the previous life of a container.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from responder.sandbox.api import Place
from responder.sandbox.failure import bad_request
from responder.sandbox.kubelet import Kubelet
from responder.sandbox.objects import Objects

__all__ = ["read_log"]


def read_log(
    objects: Objects, kubelet: Kubelet, place: Place, query: Mapping[str, str]
) -> web.Response:
    """The log as plain text; the refusals are the real server's."""
    pod = objects.get(place.kind, place.namespace, place.name)
    names = [container["name"] for container in pod["spec"]["containers"]]
    name = query.get("container", "")
    if not name and len(names) > 1:
        text = (
            f"a container name must be specified for pod {place.name}, "
            f"choose one of: [{' '.join(names)}]"
        )
        raise bad_request(text)
    name = name or names[0]
    if name not in names:
        raise bad_request(f"container {name} is not valid for pod {place.name}")
    if not pod["spec"].get("nodeName"):
        return web.Response(status=204, content_type="application/octet-stream")
    lives = kubelet.logs.get((pod["metadata"]["uid"], name), [])
    if query.get("previous") in {"1", "true"}:
        if len(lives) < 2:  # noqa: PLR2004 - the one that runs, and the one before it
            text = f'previous terminated container "{name}" in pod "{place.name}" not found'
            raise bad_request(text)
        lines = lives[-2]
    elif not lives:
        text = f'container "{name}" in pod "{place.name}" is waiting to start: ContainerCreating'
        raise bad_request(text)
    else:
        lines = lives[-1]
    if "tailLines" in query:
        count = int(query["tailLines"])
        lines = lines[-count:] if count else []
    text = "".join(line + "\n" for line in lines)
    if "limitBytes" in query:
        text = text.encode()[: int(query["limitBytes"])].decode(errors="ignore")
    return web.Response(text=text)
