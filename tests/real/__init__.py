"""Real parts for the tests: clusters, a Docker engine, a registry, a workflow runner, Alertmanager.

Nothing here is a double. Each part is started by a session, listens on loopback (or inside its own
network namespace) and is stopped by its process id when the session ends. What a session that was
killed has left behind is removed by the next one.

The package must never import the product: it is the world the product is tested against.
"""
