"""How the columns of a table become numbers."""

from dataclasses import dataclass

from mambattn._errors import ConfigError
from mambattn.configs._base import Config, check_choice, check_number

__all__ = ["PreprocessingConfig"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PreprocessingConfig(Config):
    """Settings of the tabular preprocessing. Every column gives one token, whatever is chosen here.

    Parameters
    ----------
    numerical_preprocessing : str, default "quantile"
        ``"none"``, ``"standardization"``, ``"minmax"``, ``"quantile"`` (to a normal distribution), ``"robust"``,
        ``"yeo-johnson"``, ``"splines"`` (a cubic B-spline basis a column) or ``"ple"`` (piecewise-linear encoding, a
        vector of `n_bins` a column; arXiv 2203.05556, section 3.2).
    categorical_preprocessing : {"int", "one-hot"}, default "int"
        ``"int"``: an embedding a category. ``"one-hot"``: a linear map of the indicator vector.
    categorical_columns : tuple of str or int, default ()
        Columns to treat as categories whatever their type, by name (or by position where names are none). Text,
        ``category`` and boolean columns are categories anyway.
    n_bins : int, default 32
        Bins a column, for "ple".
    bins : {"tree", "quantile"}, default "tree"
        Where the edges of the bins of "ple" lie: at the splits of a decision tree on the target, or at quantiles.
    n_knots : int, default 8
        Knots a column, for "splines".

    Examples
    --------
    >>> PreprocessingConfig(numerical_preprocessing="ple", n_bins=16).bins
    'tree'
    """

    numerical_preprocessing: str = "quantile"
    categorical_preprocessing: str = "int"
    categorical_columns: tuple[str | int, ...] = ()
    n_bins: int = 32
    bins: str = "tree"
    n_knots: int = 8

    def __post_init__(self) -> None:
        """Check every field, and refuse one that would be ignored."""
        self._to_builtin()
        check_choice(
            self,
            "numerical_preprocessing",
            ("none", "standardization", "minmax", "quantile", "robust", "yeo-johnson", "splines", "ple"),
        )
        check_choice(self, "categorical_preprocessing", ("int", "one-hot"))
        if not isinstance(self.categorical_columns, tuple):
            given = self.categorical_columns
            mend = f"({given!r},)" if isinstance(given, (str, int)) else "tuple(categorical_columns)"
            raise ConfigError(
                f"`categorical_columns` must be a tuple of column names, however categorical_columns={given!r}. "
                f"Use {mend}."
            )
        check_number(self, "n_bins", low=2, integer=True)
        check_choice(self, "bins", ("tree", "quantile"))
        check_number(self, "n_knots", low=2, integer=True)
        for name, needed in (("n_bins", "ple"), ("bins", "ple"), ("n_knots", "splines")):
            if not self.is_default(name) and self.numerical_preprocessing != needed:
                raise ConfigError(
                    f"`{name}` acts only with numerical_preprocessing={needed!r}, however "
                    f"numerical_preprocessing={self.numerical_preprocessing!r}. Change one of the two."
                )
