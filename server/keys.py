"""`rivulet keys`: API keys are made here and shown once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from server.auth import digest, new_key
from server.config import Key

app = typer.Typer(no_args_is_help=True, help="Make and hash API keys.")


@app.command()
def new(name: Annotated[str, typer.Argument(help="Stands in logs; letters, digits and . _ @ -")]) -> None:
    """A new key, on standard error, and on standard output the table for the configuration file, which holds only its hash."""
    key = new_key()
    try:
        known = Key(name=name, sha256=digest(key))
    except ValueError:
        typer.secho(f"rivulet: got name {name!r}, expected 1 to 64 letters, digits or . _ @ -", err=True, fg="red")
        raise typer.Exit(2) from None
    typer.secho(f"the key, shown this once: {key}", err=True)
    typer.echo(f'[[keys]]\nname = "{known.name}"\nsha256 = "{known.sha256}"')


@app.command("hash")
def hash_key() -> None:
    """The SHA-256 of a key that is read from standard input."""
    key = sys.stdin.readline().strip()
    if len(key) < 32:
        typer.secho(
            f"rivulet: got a key of {len(key)} characters, expected a random one of 32 or more", err=True, fg="red"
        )
        raise typer.Exit(2)
    typer.echo(digest(key))
