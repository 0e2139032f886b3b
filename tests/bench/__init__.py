"""Measures the product, each figure beside its floor from the same run.

`python -m tests.bench [NAME…]`. The floors are the least that the machine can do: bare programs
without the product's code. Machines differ and are shared, so ratios of interleaved rounds count.
"""
