"""The verbs that every door shares, and who may use them.

HTTP, command line and chat are thin skins over this one class: the same nouns, verbs, statuses
and refusals appear in all of them. The list below is the whole of what the product can be asked.
"""

from __future__ import annotations

from responder.service.access import Access
from responder.service.core import Core, Live, News, Who, require
from responder.service.deciding import Deciding
from responder.service.metrics import Metrics
from responder.service.pausing import Pause
from responder.service.reading import Reading
from responder.service.receiving import Receiving
from responder.service.starting import Starting

__all__ = ["Core", "Live", "Metrics", "News", "Pause", "Service", "Who", "require"]


class Service:
    """Every verb, each from the part of the service that owns it."""

    def __init__(self, core: Core) -> None:
        access, receiving, reading = Access(core), Receiving(core), Reading(core)
        deciding, starting = Deciding(core, reading), Starting(core)
        self.core = core

        self.authenticate = access.authenticate
        self.anonymous = access.anonymous
        self.token_create = access.token_create
        self.token_list = access.token_list
        self.token_revoke = access.token_revoke

        self.hook, self.hook_test = receiving.hook, receiving.test
        self.preauthorize = receiving.preauthorize
        self.receive = receiving.receive
        self.explain = receiving.explain

        self.number = reading.number
        self.incidents = reading.incidents
        self.incident = reading.incident
        self.timeline = reading.timeline
        self.watch = reading.watch
        self.run = reading.run
        self.plan = reading.plan
        self.playbooks = reading.playbooks
        self.playbook = reading.playbook
        self.alerts = reading.alerts
        self.audit = reading.audit
        self.audit_verify = reading.audit_verify
        self.evidence = reading.evidence
        self.evidence_bytes = reading.evidence_bytes
        self.evidence_verify = reading.evidence_verify
        self.status = reading.status
        self.ready = reading.ready
        self.alive = reading.alive
        self.metrics_text = reading.metrics_text

        self.start = starting.start
        self.preview = starting.preview
        self.decide = deciding.decide
        self.cancel = deciding.cancel
        self.undo = deciding.undo
        self.extend = deciding.extend
        self.pause = deciding.pause
        self.resume = deciding.resume
        self.note = deciding.note
