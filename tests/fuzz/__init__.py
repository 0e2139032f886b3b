"""Throw changed payloads at the senders' parsers for as long as one likes."""
