"""Files and names on the disk."""
