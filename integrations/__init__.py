"""Outside systems, one file or folder each, all with the same face: `setup(section, world, kit)`.

`SECTIONS` is the catalogue: which section of the configuration belongs to which module. A module
is imported only when it is set up, so that nobody loads an SDK they do not use.
"""

from __future__ import annotations

import importlib
from typing import cast

from responder.errors import ConfigError
from responder.ports import Setup

__all__ = ["SECTIONS", "SOURCES", "load"]

SECTIONS = {
    "registries": "integrations.registry",
    "clusters": "integrations.kubernetes",
    "forges": "integrations._forges",
    "argocd": "integrations.argocd",
    "flux": "integrations.flux",
}
SOURCES = {  # name in the configuration -> module; one file a sender
    "alertmanager": "integrations.alertmanager",
    "aws-guardduty": "integrations.aws_guardduty",
    "aws-security-hub": "integrations.aws_security_hub",
    "aws-sns": "integrations.aws_sns",
    "cloudevents": "integrations.cloudevents",
    "datadog": "integrations.datadog",
    "docker-distribution": "integrations.docker_distribution",
    "elastic-security": "integrations.elastic_security",
    "falco": "integrations.falco",
    "generic": "integrations.generic",
    "google-scc": "integrations.google_scc",
    "grafana": "integrations.grafana",
    "grype": "integrations.grype",
    "harbor": "integrations.harbor",
    "kubearmor": "integrations.kubearmor",
    "kubernetes-audit": "integrations.kubernetes_audit",
    "kubescape": "integrations.kubescape",
    "microsoft-defender": "integrations.microsoft_defender",
    "neuvector": "integrations.neuvector",
    "ocsf": "integrations.ocsf",
    "opsgenie": "integrations.opsgenie",
    "pagerduty": "integrations.pagerduty",
    "pagerduty-v3": "integrations.pagerduty_v3",
    "quay": "integrations.quay",
    "stackrox": "integrations.stackrox",
    "sysdig": "integrations.sysdig",
    "tetragon": "integrations.tetragon",
    "tracee": "integrations.tracee",
    "trivy": "integrations.trivy",
    "trivy-operator": "integrations.trivy_operator",
    "wazuh": "integrations.wazuh",
}


def load(module: str) -> Setup:
    """The entry of an integration. Raises `ConfigError` for a name that is not in the catalogue."""
    if module not in {*SECTIONS.values(), *SOURCES.values()}:
        raise ConfigError(f"{module} is not an integration of this product")
    return cast("Setup", importlib.import_module(module).setup)
