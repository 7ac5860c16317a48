"""What a model looks at: every mixer opened up as attention, and each explanation with its own error."""

from mambattn.explain.flow import receptive_field, rollout
from mambattn.explain.maps import attention_maps, contributions
from mambattn.explain.results import Attribution, Contributions, Flow, LayerMap, Reach

__all__ = [
    "Attribution",
    "Contributions",
    "Flow",
    "LayerMap",
    "Reach",
    "attention_maps",
    "contributions",
    "receptive_field",
    "rollout",
]
