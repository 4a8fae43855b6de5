"""How well scores predict recognition errors."""
