"""A method that is another one with its settings chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from itscale.budget import Budget
from itscale.engine import Engine
from itscale.methods.base import Claim, Cost, Method, Needs, Plan


class Preset(ABC):
    """Base of methods that only choose settings: a subclass is a frozen dataclass with ``core``.

    Settings are checked when it is made, as the core checks its own.
    """

    @abstractmethod
    def core(self) -> Method:
        """Return the method that does the work."""

    def __post_init__(self) -> None:
        self.core()

    @property
    def needs(self) -> Needs:
        return self.core().needs

    @property
    def claim(self) -> Claim:
        return self.core().claim

    def plan(self, cost: Cost, budget: Budget | None) -> Plan:
        return self.core().plan(cost, budget)

    def init(self, engine: Engine, plan: Plan) -> Any:
        return self.core().init(engine, plan)

    def step(self, engine: Engine, state: Any) -> Any:
        return self.core().step(engine, state)
