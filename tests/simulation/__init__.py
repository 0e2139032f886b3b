"""The whole server in one deterministic process: no socket, no thread, no wall clock.

`loop.py` owns time and order, `world.py` is what lies outside, `server.py` starts and kills the
real server, `scenario.py` lets people and detectors act, `checks.py` says what must always hold.
"""
