"""The rows of a comparison: which models take part, and how each is built."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mambattn import models
from mambattn._errors import ConfigError
from mambattn.compare._yardsticks import YARDSTICKS
from mambattn.configs import (
    FTTransformerConfig,
    MambAttentionConfig,
    MambularConfig,
    MLPConfig,
    PreprocessingConfig,
    ResNetConfig,
    TabularModelConfig,
    TrainerConfig,
)
from mambattn.schedule import parse_schedule

__all__ = ["DEFAULT_MODELS", "Candidate", "FitSettings", "Network", "Yardstick", "choose_candidates"]

_CONFIGS: dict[str, type[TabularModelConfig]] = {
    "MambAttention": MambAttentionConfig,
    "Mambular": MambularConfig,
    "FTTransformer": FTTransformerConfig,
    "ResNet": ResNetConfig,
    "MLP": MLPConfig,
}
DEFAULT_MODELS = (*_CONFIGS, *YARDSTICKS)
_COUNTS = ("n_layers", "n_attention_layers", "n_mamba_per_attention", "last_layer")


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What one fit is told, beside its rows."""

    task: str
    columns: tuple[Hashable, ...]
    categorical: tuple[Hashable, ...]
    preprocessing: PreprocessingConfig
    trainer: TrainerConfig
    seed: int


class Candidate(Protocol):
    """A row of the leaderboard before it is fitted."""

    @property
    def name(self) -> str:
        """Name of the row."""
        ...

    @property
    def family(self) -> str:
        """What the model mixes its tokens with."""
        ...

    @property
    def schedule(self) -> str | None:
        """Schedule of its stack; None where it has none."""
        ...

    @property
    def is_network(self) -> bool:
        """Whether it trains under the time limit."""
        ...

    def build(self, settings: FitSettings) -> Any:
        """Make the estimator."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the results of its fits depend on, as JSON-ready values."""
        ...


@dataclass(frozen=True)
class Yardstick:
    """A model of scikit-learn."""

    name: str
    family = "yardstick"
    schedule = None
    is_network = False

    def build(self, settings: FitSettings) -> Any:
        """Make the pipeline."""
        return YARDSTICKS[self.name](settings.task, settings.columns, settings.categorical, settings.seed)

    def describe(self) -> dict[str, Any]:
        """Return its name."""
        return {"name": self.name}


@dataclass(frozen=True)
class Network:
    """One of the five networks, with its settings."""

    name: str
    architecture: str
    config: TabularModelConfig
    is_network = True

    @property
    def schedule(self) -> str | None:
        """Schedule of its stack."""
        config = self.config
        if isinstance(config, (MambAttentionConfig, MambularConfig, FTTransformerConfig)):
            return config.layer_schedule
        return None

    @property
    def family(self) -> str:
        """What its schedule holds: Mamba, attention, both or neither."""
        letters = set(self.schedule or "")
        mamba, attention = letters & set("MS"), letters & set("ALG")
        if mamba and attention:
            return "both"
        return "mamba" if mamba else "attention" if attention else "no mixer"

    def build(self, settings: FitSettings) -> Any:
        """Make the estimator."""
        kind = "Regressor" if settings.task == "regression" else "Classifier"
        return getattr(models, self.architecture + kind)(
            model_config=self.config,
            preprocessing_config=settings.preprocessing,
            trainer_config=settings.trainer,
            random_state=settings.seed,
        )

    def describe(self) -> dict[str, Any]:
        """Return its name and settings."""
        return {"name": self.name, "architecture": self.architecture, "config": self.config.to_dict()}


def _plain_name(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def resolve_name(name: str) -> str:
    """Return the model of that name, whatever its case and hyphens, or say which was probably meant."""
    known = {_plain_name(model): model for model in DEFAULT_MODELS}
    plain = _plain_name(name) if isinstance(name, str) else ""
    if plain not in known:
        near = difflib.get_close_matches(plain, known, n=1)
        hint = f" Did you mean {known[near[0]]!r}?" if near else ""
        raise ConfigError(f"There is no model {name!r}. There are {', '.join(DEFAULT_MODELS)}.{hint}")
    return known[plain]


def choose_candidates(
    names: Sequence[str] | None = None,
    *,
    schedules: Sequence[str] = (),
    ablate: Mapping[str, Sequence[Any]] | None = None,
    model_configs: Mapping[str, TabularModelConfig | Mapping[str, Any]] | None = None,
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return the rows of a comparison, and what was merged."""
    if isinstance(names, str):
        raise ConfigError(f"`models` must be a list of names, however models={names!r}. Use [{names!r}].")
    if isinstance(schedules, str):
        raise ConfigError(
            f"`schedules` must be a list of schedules, however schedules={schedules!r}. Use [{schedules!r}]."
        )
    chosen = list(dict.fromkeys(resolve_name(name) for name in (DEFAULT_MODELS if names is None else names)))
    configs = _resolve_configs(model_configs or {})
    rows: list[Candidate] = [
        Yardstick(name) if name in YARDSTICKS else Network(name, name, configs[name]) for name in chosen
    ]
    base = configs["MambAttention"]
    assert isinstance(base, MambAttentionConfig)
    wanted = [(parse_schedule(schedule), _with_schedule(base, schedule)) for schedule in schedules]
    more, notes = _merge([*wanted, *_ablations(base, ablate or {})], rows)
    rows += more
    if len(rows) < 2:
        raise ConfigError(f"A comparison needs at least two models, however there is {len(rows)}. Add to `models`.")
    built = {row.architecture for row in rows if isinstance(row, Network)}
    unused = [name for name in map(resolve_name, model_configs or {}) if name not in built]
    if unused:
        raise ConfigError(f"`model_configs` has settings for {unused[0]}, which takes no part. Add it to `models`.")
    return tuple(rows), notes


def _merge(
    wanted: Sequence[tuple[str, MambAttentionConfig]], rows: Sequence[Candidate]
) -> tuple[list[Network], tuple[str, ...]]:
    """Return a row for each network that is not there yet, and say what was the same."""
    seen = {_canonical(row.config): row.name for row in rows if isinstance(row, Network)}
    more, notes = [], []
    for label, config in wanted:
        name, key = f"MambAttention {label}", _canonical(config)
        if key not in seen:
            seen[key] = name
            more.append(Network(name, "MambAttention", config))
        elif seen[key] != name:
            notes.append(f"{name} is the same network as {seen[key]}, so it has no row of its own.")
    n_different = len({_canonical(config) for _, config in wanted})
    if n_different < len(wanted):
        notes.append(f"The {len(wanted)} variants asked for come to {n_different} different networks.")
    return more, tuple(dict.fromkeys(notes))


def _resolve_configs(given: Mapping[str, TabularModelConfig | Mapping[str, Any]]) -> dict[str, TabularModelConfig]:
    configs = {name: kind() for name, kind in _CONFIGS.items()}
    for key, value in given.items():
        name = resolve_name(key)
        if name in YARDSTICKS:
            raise ConfigError(f"`model_configs` has settings for {name!r}, a yardstick, which takes none. Remove them.")
        kind = _CONFIGS[name]
        if isinstance(value, Mapping):
            configs[name] = kind.from_dict(value)
        elif type(value) is kind:
            configs[name] = value
        else:
            raise ConfigError(
                f"`model_configs[{key!r}]` must be a {kind.__name__} or a dict, however it is a {type(value).__name__}."
            )
    return configs


def _with_schedule(base: MambAttentionConfig, schedule: str) -> MambAttentionConfig:
    """Return the settings with this schedule, and with the counts that it overrides at their defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(base) if field.name in _COUNTS}
    return base.replace(schedule=schedule, **defaults)


def _canonical(config: TabularModelConfig) -> TabularModelConfig:
    """Return settings that are equal for equal networks: a MambAttention is told by its schedule, not its counts."""
    return _with_schedule(config, config.layer_schedule) if isinstance(config, MambAttentionConfig) else config


def _ablations(base: MambAttentionConfig, ablate: Mapping[str, Sequence[Any]]) -> list[tuple[str, MambAttentionConfig]]:
    """Return a label and the settings for every combination of the fields' values."""
    base.check_keys(ablate)
    for field, values in ablate.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ConfigError(f"`ablate[{field!r}]` must be a list of values, however it is {values!r}.")
    if "schedule" in ablate and any(count in ablate for count in _COUNTS):
        raise ConfigError("`ablate` takes the schedule or its counts, not both, since a schedule overrides the counts.")
    variants = []
    for values in itertools.product(*ablate.values()) if ablate else ():
        changes = dict(zip(ablate, values, strict=True))
        with warnings.catch_warnings():
            # Some combinations of counts have no attention layer; their row then counts as Mamba, and shows it.
            warnings.simplefilter("ignore", UserWarning)
            start = base
            if base.schedule is not None and any(count in changes for count in _COUNTS):
                start = base.replace(schedule=None)
            config = start.replace(**changes)
        others = [f"{field}={value}" for field, value in changes.items() if field not in (*_COUNTS, "schedule")]
        variants.append((" ".join([config.layer_schedule, *others]), config))
    return variants
