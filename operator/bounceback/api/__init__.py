"""The resources as models: the one source of the CRDs, the offline checks and the reference."""

GROUP = "bounceback.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/cleanup"
"""On an experiment whose run holds its targets, its journal or its evidence yet."""
