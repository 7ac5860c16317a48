"""The errors of the library, each also the builtin that callers would expect.

::

    MambAttnError
    ├── ConfigError (ValueError)               a setting that cannot hold
    ├── ShapeError (ValueError)                a tensor of the wrong shape or type
    ├── DataError (ValueError)                 a table, a file or a label that cannot be used
    └── BackendUnavailableError (ImportError)  a kernel asked for by name that cannot run here

A message says what must hold, what was got, and how to mend it.
"""

__all__ = ["BackendUnavailableError", "ConfigError", "DataError", "MambAttnError", "ShapeError"]


class MambAttnError(Exception):
    """Base class of every error that mambattn raises on purpose."""


class ConfigError(MambAttnError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class ShapeError(MambAttnError, ValueError):
    """A tensor has the wrong shape, type or device for the call."""


class DataError(MambAttnError, ValueError):
    """A table, target or file cannot be used as it is."""


class BackendUnavailableError(MambAttnError, ImportError):
    """A backend asked for by name is missing here or cannot serve the input."""
