"""Every sender: what its payloads become, and that nothing else can become of them."""
