"""`python -m server` is the `rivulet` command."""

from server.cli import app

app()
