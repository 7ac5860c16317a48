"""Checks that configs and mixers share."""

from mambattn._errors import ConfigError

__all__ = ["check_divides"]


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
