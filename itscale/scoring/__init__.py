"""The reward protocol: any callable ``(samples [m, ...], **facts it asks for) -> [m]``, larger is better.

``as_reward`` turns whatever a person gives into a ``Reward``; ``Reward.score`` is the one call that
the engine makes, and keeps NaN, wrong shapes and failing samples away from the weights.
"""

from itscale.scoring.cache import Cached
from itscale.scoring.checking import CheckResult, check_reward
from itscale.scoring.composable import geometric_mean, log, minimum
from itscale.scoring.convert import as_reward
from itscale.scoring.decorate import reward
from itscale.scoring.images import as_image_batch
from itscale.scoring.names import known_names
from itscale.scoring.protocol import Reward
from itscale.scoring.spec import RewardSpec, Scores

__all__ = [
    "Cached",
    "CheckResult",
    "Reward",
    "RewardSpec",
    "Scores",
    "as_image_batch",
    "as_reward",
    "check_reward",
    "geometric_mean",
    "known_names",
    "log",
    "minimum",
    "reward",
]
