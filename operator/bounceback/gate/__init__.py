"""The API proxy of an armed pod: its first container, between the others and the API server."""
