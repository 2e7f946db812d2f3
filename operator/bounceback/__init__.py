"""Bounceback breaks things on purpose in Kubernetes and proves that they come back."""

__version__ = "0.1.0"
