"""The embedded default: faces that are drawn, a backbone trained on them, and a run of both."""
