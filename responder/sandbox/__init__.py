"""A rehearsal world on loopback: a cluster, a forge and a registry that speak the real protocols.

It is for demos, rehearsals and tests. It never reaches anything but 127.0.0.1, never gives a
canned answer (digests are computed, states follow from calls) and is never a real system's proxy.
"""
