"""Measure the order of every solver: the slope of its error from 128 to 256 steps.

Run from the repository root, which prints a table in Markdown:

    python benchmarks/orders.py

The ODE: end points of 256 starts on a planar mixture of four Gaussians, ``kappa`` from 20 to 0.05 on a
Karras grid, against a fine Runge-Kutta solution. With noise: the variance of the sampler's law on one
Gaussian, which is read off its coefficients, so that there is no Monte Carlo error.
"""

from __future__ import annotations

from itscale.solvers import GMSDE, SOLVERS, Langevin, Restart
from tests.contracts.solvers import adds_noise, ode_errors, slope, variance_errors

NO_ORDER = {
    GMSDE: "exact",
    Langevin: "bias of the moves",
    Restart: "that of its main solver",
}


def main() -> None:
    columns = ["solver", "solves", "NFE per step", "memory", "noise", "Gaussian transition"]
    columns += ["order", "slope", "error at 256"]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for name, entry in SOLVERS.items():
        solver = entry()
        is_noisy = adds_noise(solver)
        facts = [
            "SDE" if solver.is_stochastic else "ODE",
            solver.evaluations,
            solver.history,
            *("yes" if fact else "no" for fact in (is_noisy, solver.gaussian)),
            solver.order,
        ]
        if entry in NO_ORDER:
            measured = [NO_ORDER[entry], "-"]
        else:
            errors = variance_errors(solver, (128, 256)) if is_noisy else ode_errors(solver, (128, 256))
            measured = [f"{slope([abs(e) for e in errors]):.2f}", f"{errors[-1]:.1e}"]
        print(f"| `{name}` | " + " | ".join(map(str, [*facts, *measured])) + " |")


if __name__ == "__main__":
    main()
