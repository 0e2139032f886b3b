"""What is asked of registries beside a digest."""
