"""The battery passes on this installation, and a method that breaks its claim does not."""

import pytest

from itscale.methods import METHODS, SMC, Beam, ConjugateSMC, NestedSMC
from itscale.verify import posterior, run_battery
from itscale.verify.check import judge
from itscale.verify.tilted import ENTRANTS, Entrant, problem, tilted_laws


@pytest.fixture(scope="module")
def battery():
    return run_battery(quick=True)


def test_every_check_of_the_quick_battery_passes(battery):
    assert [c for c in battery if not c.passed] == []


def test_every_method_that_claims_the_tilted_law_is_judged(battery):
    judged = {c.method.split(" (")[0].split(",")[0] for c in battery}
    assert {"importance", "smc", "nested-smc", "das", "cts"} <= judged


def test_every_method_of_the_table_that_claims_the_tilted_law_is_an_entrant():
    judged = {type(entrant.method) for entrant in (*ENTRANTS, *posterior.ENTRANTS)}
    claiming = {kind for kind in METHODS.values() if kind().claim.target == "tilted"}
    assert claiming | {Beam} <= judged  # a beam claims it in its unbiased form only


def test_a_value_beyond_its_tolerance_or_missing_fails():
    assert judge("m", "q", 1.049, 1.0, 0.01).passed
    assert not judge("m", "q", 1.06, 1.0, 0.01).passed
    assert not judge("m", "q", float("nan"), 1.0, 0.01).passed


def test_dropped_weights_fail_the_battery(monkeypatch):
    class Dropping(SMC):
        """Forget the weights after every step: each increment alone never trips the resampling rule."""

        def step(self, engine, state):
            import dataclasses

            import torch

            done = super().step(engine, state)
            p = done.particles
            if done.is_done:
                return done
            return dataclasses.replace(
                done, particles=dataclasses.replace(p, log_weights=torch.zeros_like(p.log_weights))
            )

    monkeypatch.setattr("itscale.verify.tilted.ENTRANTS", (Entrant("dropping", Dropping()),))
    checks = tilted_laws([problem("linear", 1.0)], particles=64, groups=16, quick=False)
    assert not any(c.passed for c in checks if c.quantity in ("E[r]", "log Z"))


def test_posteriors_of_a_measurement_are_right():
    assert [c for c in posterior.posteriors(particles=64, groups=48, quick=False) if not c.passed] == []


def test_a_likelihood_counted_twice_fails_the_battery(monkeypatch):
    class Twice(ConjugateSMC):
        """Multiplies the likelihood once more at the end."""

        def _plus(self, p, gain):
            is_end = int(p.level[0, 0]) == 50
            return super()._plus(p, gain + p.value if is_end else gain)

    monkeypatch.setattr("itscale.verify.posterior.ENTRANTS", (Entrant("twice", Twice()),))
    assert not all(c.passed for c in posterior.posteriors(particles=64, groups=48, quick=False))


def test_uncorrected_nested_smc_claims_nothing():
    assert NestedSMC(children=4).claim.target == "tilted"
    assert NestedSMC(children=4, correct=False).claim.target is None
