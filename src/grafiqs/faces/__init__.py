"""Where a face is in a picture, and how it is cut out."""
