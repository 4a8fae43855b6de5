"""The networks, and the checkpoints they are loaded from."""
