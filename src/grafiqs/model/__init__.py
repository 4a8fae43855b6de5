"""A network in the hand: images of any kind in, scores, gradients and embeddings out."""
