"""Playbooks: read, checked, matched and explained; nothing here does any I/O but reading files."""
