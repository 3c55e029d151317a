"""Small networks that count their rows, rewards that count their samples, and an engine to hold them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from itscale import models
from itscale.budget import Budget, Ledger
from itscale.engine import Engine, Worker
from itscale.methods import (
    CTS,
    DAS,
    DNO,
    DTS,
    FKC,
    MPGD,
    RBF,
    SMC,
    SVDD,
    TDS,
    TFG,
    UGD,
    Alive,
    Beam,
    BestOfN,
    CoDe,
    DTSStar,
    EpsilonGreedy,
    FreeDoM,
    Funnel,
    ImportanceSampling,
    LiDAR,
    NestedSMC,
    ParticleGibbs,
    PathSearch,
    Profile,
    PsiSMC,
    Redraw,
    ReNO,
    RestartSMC,
    TwistedSMC,
    Unguided,
    VASRMax,
    VerifierThreshold,
    WasteFreeSMC,
    ZeroOrder,
    ZeroOrderSearch,
)
from itscale.noise import Noise
from itscale.pools import Local
from itscale.preparation import prepare
from itscale.scoring import Reward, as_reward
from itscale.solvers import Interval

CYCLES = (
    Interval(kappa_min=0.5, kappa_max=2.0, points=3, repeats=2),
    Interval(kappa_min=0.2, kappa_max=0.4, points=2),
)
SPREAD = (1.0, 0.8, 0.5, 0.3, 0.1, 0.05)
DECILES = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
PROFILE = Profile(
    tuple(k / 6 for k in range(6)), SPREAD, (0.2, 0.4, 0.6, 0.8, 0.9, 1.0), quantiles=(DECILES,) * 6
)

METHODS: dict[str, Any] = {
    "unguided": Unguided(particles=6),
    "best-of-n": BestOfN(particles=6),
    "best-of-n, drafts": BestOfN(particles=6, draft_steps=2, finish=2),
    "importance": ImportanceSampling(particles=6),
    "alive": Alive(particles=5, max_trials=6, batch=4),
    "smc": SMC(particles=6, ess_threshold=1.0),
    "smc, sparse": SMC(particles=6, score_every=3, potential="max"),
    "smc, window": SMC(particles=6, score_window=(2, 3), potential="sum"),
    "smc, value": SMC(particles=6, score_every=2, potential="value"),
    "smc, late": SMC(particles=6, schedule="late", ess_threshold=0.9),
    "nested, funnel": NestedSMC(particles=6, children=3, schedule="funnel", score_every=2),
    "nested": NestedSMC(particles=3, children=4),
    "nested, sparse": NestedSMC(particles=3, children=3, score_every=2),
    "svdd": SVDD(particles=3, children=4),
    "svdd, argmax": SVDD(particles=2, children=3, selection="argmax", score_window=(1, 4)),
    "restart, weighted": RestartSMC(particles=6, intervals=CYCLES, rule="weight", inner="heun"),
    "restart, accepted": RestartSMC(particles=6, intervals=CYCLES, inner="dpm++sde"),
    "fkc": FKC(particles=5),
    "fkc, corrections": FKC(particles=5, corrections=2, uncorrected=3),
    "lidar": LiDAR(particles=5, bank=4, bank_steps=3),
    "tds": TDS(particles=5),
    "das": DAS(particles=5, ess_threshold=1.0),
    "cts": CTS(particles=5, profile=PROFILE),
    "cts, population": CTS(particles=9, profile=PROFILE, drift="population"),
    "cts, regression": CTS(particles=9, profile=PROFILE, drift="regression"),
    "twisted, schedule": TwistedSMC(particles=6, schedule=(2.0, 1.0, 0.7, 1.3, 0.5, 1.0)),
    "twisted, adaptive": TwistedSMC(particles=6, tempering="adaptive"),
    "funnel": Funnel(particles=6),
    "vasr-max": VASRMax(particles=6, ess_threshold=0.9),
    "beam": Beam(particles=3, children=4),
    "beam, unbiased": Beam(particles=3, children=4, selection="unbiased"),
    "beam, narrowing": Beam(particles=5, children=2, schedule="narrowing"),
    "beam, narrowing, unbiased": Beam(particles=4, schedule="narrowing", selection="unbiased"),
    "code": CoDe(particles=2, children=3, block=2),
    "verifier-threshold": VerifierThreshold(particles=3, initial=2, profile=PROFILE),
    "svdd, rollover": SVDD(particles=2, children=3, selection="argmax", rollover="parent"),
    "rbf": RBF(particles=3, initial=2),
    "dts": DTS(particles=5, walkers=3),
    "dts, tree": DTS(particles=4, walkers=2, branch_every=2, weights="tree", widening=0.5),
    "dts-star": DTSStar(particles=4, walkers=3),
    "gibbs": ParticleGibbs(particles=4, sweeps=2),
    "gibbs, multinomial": ParticleGibbs(
        particles=4, sweeps=2, burn_in=0, scheme="multinomial", ess_threshold=1.0
    ),
    "waste-free, cycles": WasteFreeSMC(particles=12, moves=CYCLES, inner="dpm++sde"),
    "waste-free": WasteFreeSMC(particles=8),
    "waste-free, both": WasteFreeSMC(
        particles=6, moves=(*CYCLES[1:], Redraw(start=0.1, end=0.4, repeats=2)), inner="dpm++sde"
    ),
    "psi": PsiSMC(particles=5, burn_in=2),
    "psi, chains": PsiSMC(particles=6, chains=2, burn_in=1, every=2, start="plain", guide="network"),
    "psi, no gradient": PsiSMC(particles=4, burn_in=3, proposal="pcn", ess_threshold=1.0),
    "zero-order": ZeroOrderSearch(particles=2, neighbours=3, rounds=2),
    "paths": PathSearch(particles=2, children=3, start=0.4, descent=2),
    "paths, heun": PathSearch(particles=2, children=3, back=0.5, descent=3, inner="heun"),
    "epsilon-greedy": EpsilonGreedy(particles=2, rounds=2, candidates=3),
    "reno": ReNO(particles=3, iterations=4, rate=0.5),
    "reno, all kept": ReNO(particles=3, iterations=3, rate=0.5, recompute=False),
    "reno, zero-order": ReNO(particles=2, iterations=3, rate=0.5, gradient=ZeroOrder(directions=3)),
    "mpgd": MPGD(particles=4),
    "freedom, weighted": FreeDoM(particles=5, correct=True),
    "ugd": UGD(particles=3, window=(0.4, 1.0)),
    "tfg, weighted": TFG(particles=5, correct=True, ess_threshold=1.0),
    "dno": DNO(particles=3, iterations=4, permutations=3),
    "dno, zero-order": DNO(particles=2, iterations=3, gradient=ZeroOrder(directions=3)),
}


class Network(nn.Module):
    """A tiny conditional network in two layouts; counts the rows that pass through it."""

    def __init__(self, event: tuple[int, ...] = (3,)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.rows = self.backward = 0
        self.is_image = len(event) == 3
        layers: list[nn.Module]
        if self.is_image:
            layers = [
                nn.Conv2d(event[0] + 2, 8, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(8, event[0], 3, padding=1),
            ]
        else:
            layers = [nn.Linear(event[0] + 2, 16), nn.SiLU(), nn.Linear(16, event[0])]
        self.body = nn.Sequential(*layers)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        self.rows += len(x)
        if x.requires_grad:
            x.register_hook(self._went_backwards)
        facts = torch.stack([t, condition.to(t)], dim=1)
        if self.is_image:
            facts = facts[..., None, None].expand(-1, -1, *x.shape[2:])
        return self.body(torch.cat([x, facts], dim=1)) - x

    def _went_backwards(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


def wrapped(network: Network, event: tuple[int, ...] = (3,)):
    return models.wrap(
        network,
        predicts="velocity",
        interpolant="linear",
        event_shape=event,
        conditional=True,
        null_condition=-1.0,
        decode=lambda x: x,
        modality="latent",
    )


class CountingReward:
    """Sum of coordinates; counts the samples it was asked to score."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.samples = 0

    def __call__(self, latents: Tensor) -> Tensor:
        self.samples += len(latents)
        return self.scale * latents.flatten(1).sum(1)


def smooth(reward: Any) -> Any:
    """The same reward, declared differentiable."""
    return Reward.of(reward, name="sum", differentiable=True)


def total(latents: Tensor) -> Tensor:
    return latents.flatten(1).sum(1)


def make_engine(
    model: Any,
    reward: Any = total,
    *,
    steps: int = 5,
    groups: int = 2,
    tilt: float = 1.0,
    budget: Budget | None = None,
    pool: Local | None = None,
    conditions: list[Any] | None = None,
    **settings: Any,
) -> Engine:
    """An engine as ``sample`` builds it, for a method of one's own."""
    settings.setdefault("method", METHODS["smc"])
    setup = prepare(model, reward=reward, steps=steps, budget=budget, **settings)
    noise = Noise(0)

    def factory(**where: Any) -> Worker:
        return Worker(
            setup.process,
            setup.kernel,
            setup.times,
            noise,
            None if reward is None else as_reward(reward),
            None,
            conditions or [None] * groups,
            getattr(model, "dtype", torch.float32),
            **where,
        )

    return Engine(
        (pool or Local()).open(factory),
        kernel=setup.kernel,
        times=setup.times,
        group_ids=torch.arange(groups),
        noise=noise,
        ledger=Ledger(groups, budget),
        event_shape=tuple(model.event_shape),
        rows_per_look=setup.model.rows_per_look,
        tilt=tilt,
        has_reward=reward is not None,
        process=setup.process,
    )
