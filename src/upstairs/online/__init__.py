"""Streams: the world changes, and comes back."""
