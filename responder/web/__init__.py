"""The HTTP door: one table of routes, from which rights, documents and tests are generated.

It never decides anything: every verb is a call of `responder.service`.
"""
