"""A proxy before the Kubernetes API server that makes it fail for its clients, as rules say (types/api_rule.py)."""
