"""From an encoded image to the network's input."""
