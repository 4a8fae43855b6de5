"""Threads and processes that work beside the computation: how many may, what they do ahead of its turn, their end."""
