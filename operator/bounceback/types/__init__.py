"""Shared field types. `plan` and `instants` need the standard library only: the agent imports them."""
