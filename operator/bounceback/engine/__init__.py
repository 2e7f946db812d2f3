"""Decisions: pure functions of what is known and of the time that is passed in."""
