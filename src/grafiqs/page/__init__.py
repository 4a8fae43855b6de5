"""One page that shows a run: what stands on it, its pictures, and the page itself."""
