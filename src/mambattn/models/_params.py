"""Configs as nested parameters: reading their fields, and replacing a frozen config by a changed one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.configs import Config, PreprocessingConfig, TabularModelConfig, TrainerConfig


class ConfiguredEstimator(BaseEstimator):
    """An estimator whose parameters may be configs; None stands for the default config."""

    _model_config: ClassVar[type[TabularModelConfig]]

    @classmethod
    def _config_classes(cls) -> dict[str, type[Config]]:
        return {
            "model_config": cls._model_config,
            "preprocessing_config": PreprocessingConfig,
            "trainer_config": TrainerConfig,
        }

    def _resolved(self, name: str) -> Any:
        """Give a config parameter, the default config where it is None."""
        wanted, value = self._config_classes()[name], getattr(self, name)
        if value is None:
            return wanted()
        if not isinstance(value, wanted):
            mend = f"Use {wanted.__name__}(**{name})" if isinstance(value, dict) else f"Use {wanted.__name__}(…)"
            raise ConfigError(f"`{name}` must be a {wanted.__name__} or None, however {name}={value!r}. {mend}.")
        return value

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters.

        Parameters
        ----------
        deep : bool, default True
            Whether to add the fields of the configs, as ``model_config__d_model`` and so on; a config that is None
            shows its defaults.

        Returns
        -------
        dict of str to object
            Values by name.
        """
        params = super().get_params(deep=False)
        if deep:
            for name, wanted in self._config_classes().items():
                config = wanted() if params[name] is None else params[name]
                if isinstance(config, Config):
                    params |= {f"{name}__{field}": getattr(config, field) for field in config.field_names()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, nested ones too.

        Configs are frozen: fields such as ``model_config__d_model`` *replace* the config by a changed copy, with all
        the changes of one call at once. Where a value cannot hold, nothing is changed.

        Parameters
        ----------
        **params : object
            Values by name, as `get_params` gives them.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        ConfigError
            If a name is unknown, or a config refuses a value.
        """
        known = self.get_params(deep=True)
        plain: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in params.items():
            name, _, field = key.partition("__")
            if field and name in self._config_classes():
                nested[name][field] = value
            elif key in known:
                plain[key] = value
            else:
                raise self._unknown(key, list(known))
        for name, changes in nested.items():
            config = plain.get(name, getattr(self, name))
            config = self._config_classes()[name]() if config is None else config
            fields = config.field_names() if isinstance(config, Config) else ()
            for field in changes:
                if field not in fields:
                    raise self._unknown(f"{name}__{field}", [f"{name}__{other}" for other in fields])
            plain[name] = config.replace(**changes)
        for key, value in plain.items():
            setattr(self, key, value)
        return self

    def _unknown(self, key: str, known: list[str]) -> ConfigError:
        hint = did_you_mean(key, known, otherwise=f"Valid parameters are: {sorted(known)!r}.")
        return ConfigError(f"Invalid parameter {key!r} for estimator {type(self).__name__}.{hint}")
