"""Tests of playbooks: language, loading, checking, matching."""
