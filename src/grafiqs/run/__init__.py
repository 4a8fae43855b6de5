"""The run folder: what a run writes, and how it survives being stopped (docs/run-folder.md)."""
