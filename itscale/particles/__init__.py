"""The particle core: weights, resampling and genealogy, as pure functions of tensors.

Device-agnostic, float64, free of synchronisation: decisions are masks, so nothing waits for the device.
Random numbers come in as uniforms.
"""

from itscale.particles.conditional import (
    CONDITIONAL,
    conditional_ancestors,
    conditional_uniforms,
    draw_parent,
)
from itscale.particles.genealogy import Genealogy
from itscale.particles.resampling import (
    Resampled,
    adaptive,
    ancestors,
    ancestors_in_place,
    ancestors_sorted,
    partial,
    resample,
)
from itscale.particles.rules import Always, At, Every, Never, Rule, WhenESSBelow
from itscale.particles.schemes import SCHEMES, Scheme, get_scheme, tournament_size
from itscale.particles.selection import Distinct, Selected, select_children, without_duplicates
from itscale.particles.variance import (
    evidence_relative_variance,
    mean_variance,
    n_distinct,
)
from itscale.particles.weights import (
    Sanitized,
    conditional_ess,
    effective_sample_size,
    health,
    is_dead,
    log_mean_exp,
    max_weight,
    normalise,
    perplexity,
    sanitize,
)

__all__ = [
    "CONDITIONAL",
    "SCHEMES",
    "Always",
    "At",
    "Distinct",
    "Every",
    "Genealogy",
    "Never",
    "Resampled",
    "Rule",
    "Sanitized",
    "Scheme",
    "Selected",
    "WhenESSBelow",
    "adaptive",
    "ancestors",
    "ancestors_in_place",
    "ancestors_sorted",
    "conditional_ancestors",
    "conditional_ess",
    "conditional_uniforms",
    "draw_parent",
    "effective_sample_size",
    "evidence_relative_variance",
    "get_scheme",
    "health",
    "is_dead",
    "log_mean_exp",
    "max_weight",
    "mean_variance",
    "n_distinct",
    "normalise",
    "partial",
    "perplexity",
    "resample",
    "sanitize",
    "select_children",
    "tournament_size",
    "without_duplicates",
]
