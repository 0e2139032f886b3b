"""The contract of the store, run over both ways of writing."""
