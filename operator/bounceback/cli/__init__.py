"""The command `bounceback`: one module a command, each with `arguments(parser)` and `run(options)`."""
