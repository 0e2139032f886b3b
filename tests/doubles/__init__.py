"""Doubles of outside systems that check themselves: each speaks the vendor's published description.

A double never imports the product: it is the world the product is tested against.
"""
