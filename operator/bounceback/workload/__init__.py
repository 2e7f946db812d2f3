"""Workloads as they happen: operations on a real system, written down in a ledger as they begin and end."""
