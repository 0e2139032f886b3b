"""What both forges must hold alike: `change.propose` and `change.merge`."""
