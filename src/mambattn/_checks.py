"""What checks of settings and names share."""

import difflib
from collections.abc import Iterable

from mambattn._errors import ConfigError

__all__ = ["check_divides", "did_you_mean"]


def check_divides(whole_name: str, whole: int, part_name: str, part: int) -> None:
    """Raise `ConfigError` unless the part divides the whole, naming the nearest parts that do."""
    if whole % part:
        divisors = sorted((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - part))
        *others, last = map(str, sorted(divisors[:3]))
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ConfigError(
            f"`{whole_name}` must be divisible by `{part_name}`, however {whole_name}={whole}, {part_name}={part}. "
            f"Use {part_name}={listed}."
        )


def did_you_mean(name: object, known: Iterable[object], otherwise: str = "") -> str:
    """Say which name was probably meant, to stand behind the first sentence of a message.

    Parameters
    ----------
    name : object
        What was given.
    known : iterable of object
        What there is.
    otherwise : str, default ""
        The sentence if none is near.

    Returns
    -------
    str
        A space and a question, a space and `otherwise`, or nothing.

    Examples
    --------
    >>> did_you_mean("Rotery", ["learned", "rotary"])
    " Did you mean 'rotary'?"
    >>> did_you_mean("spline", ["learned", "rotary"], otherwise="Known: learned, rotary.")
    ' Known: learned, rotary.'
    """
    names = {str(each).strip().casefold(): str(each) for each in known}
    near = difflib.get_close_matches(str(name).strip().casefold(), names, n=1)
    if near:
        return f" Did you mean {names[near[0]]!r}?"
    return f" {otherwise}" if otherwise else ""
