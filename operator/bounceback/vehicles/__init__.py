"""How an injection gets to where it bites: requests to the Kubernetes API, nothing else."""
