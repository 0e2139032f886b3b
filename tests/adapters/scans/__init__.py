"""Scan reports: read in every form, and compared."""
