"""The local development cluster and its tools. Standard library only: it runs before any virtual environment exists."""
