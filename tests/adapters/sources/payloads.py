"""Payloads written for these tests in the senders' real shapes; none is taken from anywhere."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def falco_pod() -> Json:
    """A shell in a pod, as Falco with all properties on sends it."""
    return {
        "hostname": "sensor-k2x9p",
        "output": "08:14:55.120000417: Warning Shell (user=root pod=cart-5d9f-abcde)",
        "output_fields": {
            "container.id": "3f9a1c0b77de",
            "container.image.repository": "registry.example/shop/cart",
            "container.image.tag": "1.4.2",
            "container.name": "cart",
            "evt.time": 1790237695120000417,
            "evt.type": "execve",
            "fd.name": None,
            "k8s.ns.name": "shop",
            "k8s.pod.name": "cart-5d9f-abcde",
            "proc.aname[2]": "containerd-shim",
            "proc.cmdline": "sh -c id",
            "proc.name": "sh",
            "proc.pname": None,
            "proc.tty": 34816,
            "user.loginuid": -1,
            "user.name": "root",
        },
        "priority": "Warning",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "tags": ["container", "mitre_execution", "shell"],
        "time": "2026-09-24T08:14:55.120000417Z",
    }


def falco_host() -> Json:
    """A read of a secret file on a machine, outside of any container."""
    return {
        "hostname": "node-7",
        "output": "Error Sensitive file read (file=/etc/shadow command=cat /etc/shadow)",
        "output_fields": {
            "container.id": "host",
            "container.name": "host",
            "fd.name": "/etc/shadow",
            "k8s.ns.name": "<NA>",
            "k8s.pod.name": "<NA>",
            "proc.cmdline": "cat /etc/shadow",
            "proc.name": "cat",
            "user.name": "ops",
        },
        "priority": "Error",
        "rule": "Read sensitive file untrusted",
        "source": "syscall",
        "time": "2026-09-24T08:15:00.5Z",
    }


def falco_audit() -> Json:
    """An exec into a pod, seen by the audit log's plugin."""
    return {
        "hostname": "audit-plugin-0",
        "output": "Notice Attach/Exec to pod (user=dev pod=web-0 ns=shop command=bash)",
        "output_fields": {
            "evt.time": 1790237700000000000,
            "ka.target.name": "web-0",
            "ka.target.namespace": "shop",
            "ka.target.resource": "pods",
            "ka.target.subresource": "exec",
            "ka.uri.param[command]": "bash",
            "ka.user.name": "dev",
            "ka.verb": "create",
        },
        "priority": "Notice",
        "rule": "Attach/Exec Pod",
        "source": "k8s_audit",
        "tags": ["k8s"],
        "time": "2026-09-24T08:15:00Z",
    }


def falco_drop() -> Json:
    """Falco's own word that it lost system calls."""
    return {
        "hostname": "node-7",
        "output": "Falco internal: syscall event drop. 12 system calls dropped in last second.",
        "output_fields": {"n_drops": "12", "n_evts": 90123},
        "priority": "Critical",
        "rule": "Falco internal: syscall event drop",
        "source": "internal",
        "time": "2026-09-24T08:15:01Z",
    }


def sidekick_pod() -> Json:
    """The same shell by way of Falcosidekick: an id per event, zeros trimmed, plural source."""
    event = falco_pod()
    event["uuid"] = "5f0c1f7e-4a35-4b58-9d7a-2b9a3f0c7f11"
    event["source"] = "syscalls"
    event["output_fields"]["team"] = "$TEAM"
    event["output_fields"]["env"] = "staging"
    return event


def sidekick_test() -> Json:
    """What Falcosidekick's `/test` sends on."""
    return {
        "uuid": "9a4a2b70-2a0a-4f7f-8b7e-0f5b7b1f0a01",
        "output": "This is a test from falcosidekick",
        "priority": "Debug",
        "rule": "Test rule",
        "time": "2026-09-24T08:16:00Z",
        "output_fields": {"proc.name": "falcosidekick", "user.name": "falcosidekick"},
        "source": "internal",
        "tags": ["example", "test"],
        "hostname": "falcosidekick-0",
    }


def alert_item(**labels: str) -> Json:
    """One firing alert of a group."""
    return {
        "status": "firing",
        "labels": {
            "alertname": "ShellInContainer",
            "severity": "critical",
            "namespace": "shop",
            "pod": "cart-5d9f-abcde",
            "container": "cart",
            "node": "node-7",
            "instance": "10.0.0.7:9100",
            "deployment": "cart",
            **labels,
        },
        "annotations": {"summary": "somebody opened a shell", "runbook": "wiki/shell"},
        "startsAt": "2026-09-24T10:14:55.123456789+02:00",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": "a1b2c3d4e5f60718",
    }


def alertmanager_group() -> Json:
    """A firing group with one member that has ended already."""
    ended = alert_item(pod="cart-5d9f-zzzzz")
    ended |= {
        "status": "resolved",
        "endsAt": "2026-09-24T10:20:00Z",
        "fingerprint": "ffffc3d4e5f60718",
    }
    return {
        "version": "4",
        "groupKey": '{}:{alertname="ShellInContainer"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "responder",
        "groupLabels": {"alertname": "ShellInContainer"},
        "commonLabels": {"alertname": "ShellInContainer"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": [alert_item(), ended],
    }


def pagerduty_event() -> Json:
    """A trigger in the Events API's words."""
    return {
        "routing_key": "canary-routing-key-0123456789abcdef",
        "event_action": "trigger",
        "dedup_key": "shop/cart/shell",
        "client": "scanner",
        "client_url": "https://scanner.example",
        "links": [{"href": "https://scanner.example/1", "text": "finding"}],
        "payload": {
            "summary": "shell in cart",
            "source": "node-7",
            "severity": "error",
            "timestamp": "2026-09-24T08:14:55.120+0000",
            "component": "cart",
            "group": "shop",
            "class": "shell",
            "custom_details": {
                "namespace": "shop",
                "pod": "cart-5d9f-abcde",
                "container_id": "containerd://3f9a1c0b77de3f9a1c0b77de",
                "count": 3,
            },
        },
    }


def generic_event() -> Json:
    """An alert in our own words."""
    return {
        "rule": "Odd egress",
        "severity": "high",
        "time": 1790237695120,
        "summary": "cart talks to an unknown host",
        "fingerprint": "egress-17",
        "tags": ["egress"],
        "labels": {"team": "shop"},
        "target": {
            "namespace": "shop",
            "pod": "cart-5d9f-abcde",
            "image": "registry.example/shop/cart:1.4.2",
            "workload": "Deployment/cart",
        },
        "bytes": 90071992547409931,
    }


ALL: dict[str, list[Json]] = {
    "falco": [
        falco_pod(),
        falco_host(),
        falco_audit(),
        falco_drop(),
        sidekick_pod(),
        sidekick_test(),
    ],
    "alertmanager": [alertmanager_group()],
    "pagerduty": [pagerduty_event()],
    "generic": [generic_event()],
}
