"""The schedule language: a stack of layers as a string, one letter a layer."""

from mambattn._errors import ConfigError

__all__ = ["LETTERS", "layer_kinds", "parse_schedule", "tabular_schedule"]

LETTERS = {
    "M": "Mamba",
    "S": "Mamba-2",
    "A": "global attention",
    "L": "local attention",
    "G": "global + local attention",
    "-": "MLP",
}


def parse_schedule(schedule: str) -> str:
    """Check a schedule and return it.

    Parameters
    ----------
    schedule : str
        One letter a layer, first layer first: ``M`` Mamba, ``S`` Mamba-2, ``A`` global attention, ``L`` local
        (sliding-window) attention, ``G`` global + local attention, ``-`` MLP.

    Returns
    -------
    str
        The schedule, unchanged.

    Raises
    ------
    ConfigError
        If it is empty, no string, or holds another letter; the message names the position.

    Examples
    --------
    >>> parse_schedule("MMA" * 2)
    'MMAMMA'
    >>> parse_schedule("MXA")
    Traceback (most recent call last):
    ...
    mambattn._errors.ConfigError: `schedule` 'MXA' has 'X' at position 2. Letters allowed: M (Mamba), S (Mamba-2), \
A (global attention), L (local attention), G (global + local attention), - (MLP).
    """
    allowed = ", ".join(f"{letter} ({meaning})" for letter, meaning in LETTERS.items())
    if not isinstance(schedule, str) or not schedule:
        raise ConfigError(
            f"`schedule` must be a string of at least one letter, however schedule={schedule!r}. "
            f"Letters allowed: {allowed}."
        )
    for position, letter in enumerate(schedule, start=1):
        if letter not in LETTERS:
            raise ConfigError(
                f"`schedule` {schedule!r} has {letter!r} at position {position}. Letters allowed: {allowed}."
            )
    return schedule


def layer_kinds(schedule: str) -> tuple[str, ...]:
    """Spell a schedule out, one name a layer.

    Parameters
    ----------
    schedule : str
        A schedule, see `parse_schedule`.

    Returns
    -------
    tuple of str
        The meaning of each letter.

    Examples
    --------
    >>> layer_kinds("MA")
    ('Mamba', 'global attention')
    """
    return tuple(LETTERS[letter] for letter in parse_schedule(schedule))


def tabular_schedule(n_layers: int, n_attention_layers: int, n_mamba_per_attention: int, last_layer: str) -> str:
    """Derive the schedule of the tabular MambAttention from its four counts.

    Make ``n_layers + n_attention_layers`` blocks, the i-th (from 1) being attention when i is a multiple of
    ``n_mamba_per_attention + 1``; then append one block of `last_layer` if the last one differs.

    Parameters
    ----------
    n_layers, n_attention_layers : int
        Their sum is the number of blocks before `last_layer` is looked at.
    n_mamba_per_attention : int
        Mamba blocks before each attention block.
    last_layer : {"attn", "mamba"}
        What the stack must end with.

    Returns
    -------
    str
        A schedule of ``M`` and ``A``.

    Examples
    --------
    >>> tabular_schedule(4, 1, 1, "attn")
    'MAMAMA'
    >>> tabular_schedule(2, 1, 3, "mamba")
    'MMM'
    """
    period = n_mamba_per_attention + 1
    letters = ["M" if i % period else "A" for i in range(1, n_layers + n_attention_layers + 1)]
    last = "A" if last_layer == "attn" else "M"
    if letters[-1] != last:
        letters.append(last)
    return "".join(letters)
