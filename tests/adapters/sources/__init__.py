"""Sources: what senders really post, what strangers post, and who may post at all."""
