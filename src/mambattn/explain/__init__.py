"""What a model looks at: every mixer opened up as attention, and each explanation with its own error."""

from mambattn.explain.attribution import gradient_times_input, integrated_gradients, occlusion
from mambattn.explain.evaluation import Completeness, completeness, hit_rate
from mambattn.explain.flow import receptive_field, rollout
from mambattn.explain.gradient_map import gradient_times_map
from mambattn.explain.intervention import Knockout, knockout
from mambattn.explain.joint import JointEffects, joint_effects
from mambattn.explain.maps import attention_maps, contributions
from mambattn.explain.order import OrderEffects, order_effects
from mambattn.explain.perturbation import PerturbationCurve, perturbation_curve
from mambattn.explain.randomisation import Randomisation, randomisation_test
from mambattn.explain.relevance import lrp
from mambattn.explain.results import Attribution, Contributions, Flow, LayerMap, Reach
from mambattn.explain.segmentation import SegmentationScores, segmentation_scores
from mambattn.explain.tables import RowExplanation, explain_rows

__all__ = [
    "Attribution",
    "Completeness",
    "Contributions",
    "Flow",
    "JointEffects",
    "Knockout",
    "LayerMap",
    "OrderEffects",
    "PerturbationCurve",
    "Randomisation",
    "Reach",
    "RowExplanation",
    "SegmentationScores",
    "attention_maps",
    "completeness",
    "contributions",
    "explain_rows",
    "gradient_times_input",
    "gradient_times_map",
    "hit_rate",
    "integrated_gradients",
    "joint_effects",
    "knockout",
    "lrp",
    "occlusion",
    "order_effects",
    "perturbation_curve",
    "randomisation_test",
    "receptive_field",
    "rollout",
    "segmentation_scores",
]
