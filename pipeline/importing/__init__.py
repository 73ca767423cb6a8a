"""Caches out of what other programs have kept of a teacher's run, checked on the way in."""
