"""What a score means: quality from 0 to 100, by the scores of a reference."""
