"""The Kubernetes integration: pure parts as tables, every action against a real API server."""
