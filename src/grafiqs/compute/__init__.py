"""From pixels to gradients on one device: how it is chosen, compiled and proved."""
