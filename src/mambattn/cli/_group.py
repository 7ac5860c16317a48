"""What all commands share: errors become one sentence and exit code 2, Ctrl-C becomes 130."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from mambattn._errors import MambAttnError

__all__ = ["CommandGroup", "note", "say_how_to_resume"]

_RESUME = "mambattn.resume"
_INTERRUPTED = 130
_SPELL = "mambattn.spell"
_SPELLED = str.maketrans({"−": "-", "–": "-", "≈": "~", "±": "+/-", "×": "x", "·": "*", "…": "...", "τ": "tau"})


class Refusal(click.ClickException):
    """An error of the library as the command line shows it."""

    exit_code = 2


class CommandGroup(click.Group):
    """A group in whose commands `MambAttnError` means exit code 2 and Ctrl-C means 130, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=_SPELL)
        try:
            with _plain_warnings():
                return super().invoke(ctx)
        except MambAttnError as error:
            raise Refusal(str(error)) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Refusal(f"{error.filename or 'The output'} cannot be written: {error.strerror}.") from error
            if error.filename is None:  # such as a reader of our output that went away, which click knows how to end
                raise
            raise Refusal(f"{str(error.filename)!r} cannot be used: {error.strerror}.") from error
        except KeyboardInterrupt:
            click.echo(f"\nInterrupted. {ctx.meta.get(_RESUME, 'Nothing was written.')}", err=True)
            ctx.exit(_INTERRUPTED)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Write what the output's encoding lacks in letters that it has: a minus must not end a command, nor vanish."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_SPELLED)
    return text.encode(error.encoding, "replace").decode(error.encoding), error.end


codecs.register_error(_SPELL, _spell)


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
