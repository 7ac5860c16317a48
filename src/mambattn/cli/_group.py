"""What all commands share: errors become one sentence and exit code 2, Ctrl-C becomes 130."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import click

from mambattn._errors import MambAttnError

__all__ = ["CommandGroup", "note", "say_how_to_resume"]

_RESUME = "mambattn.resume"
_INTERRUPTED = 130


class Refusal(click.ClickException):
    """An error of the library as the command line shows it."""

    exit_code = 2


class CommandGroup(click.Group):
    """A group in whose commands `MambAttnError` means exit code 2 and Ctrl-C means 130, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with _plain_warnings():
                return super().invoke(ctx)
        except MambAttnError as error:
            raise Refusal(str(error)) from error
        except OSError as error:
            if error.filename is None:  # such as a reader of our output that went away, which click knows how to end
                raise
            raise Refusal(f"{str(error.filename)!r} cannot be used: {error.strerror}.") from error
        except KeyboardInterrupt:
            click.echo(f"\nInterrupted. {ctx.meta.get(_RESUME, 'Nothing was written.')}", err=True)
            ctx.exit(_INTERRUPTED)


def say_how_to_resume(hint: str) -> None:
    """Set the sentence that is shown if the running command is interrupted."""
    click.get_current_context().meta[_RESUME] = hint


def note(text: str) -> None:
    """Tell the user something that is no result, on standard error."""
    click.echo(f"Note: {text}", err=True)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show a warning as one line on standard error, without the line of code that raised it."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
