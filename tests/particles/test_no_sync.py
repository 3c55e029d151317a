"""No function of the core may wait for the device to answer.

Fake tensors have shapes and no values, so a decision that depends on data raises. This finds on a CPU what
would synchronise a GPU.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from itscale import particles as core

N = 12


def calls(device: str = "cpu") -> dict:
    f64 = {"dtype": torch.float64, "device": device}
    lw = torch.zeros(3, N, **f64)
    mask = torch.zeros(3, dtype=torch.bool, device=device)
    index = torch.zeros(3, N, dtype=torch.int64, device=device)
    table = {}
    reductions = (core.sanitize, core.normalise, core.log_mean_exp, core.effective_sample_size)
    for f in (*reductions, core.perplexity, core.max_weight, core.is_dead):
        table[f.__name__] = lambda f=f: f(lw)
    table["conditional_ess"] = lambda: core.conditional_ess(lw, lw)
    table["partial"] = lambda: core.partial(lw, 0.5)
    for rule in (core.WhenESSBelow(0.5), core.Always(), core.Never(), core.Every(2), core.At((1,))):
        table[str(rule)] = lambda rule=rule: rule(lw, 1)
    for name, scheme in core.SCHEMES.items():
        for m in (N, 5) if scheme.resizes else (N,):
            u = torch.zeros(3, scheme.uniforms(N, m), **f64)
            table[f"{name} {m}"] = lambda name=name, u=u, m=m: core.resample(lw, u, name, m=m, aux=0.5 * lw)
        u = torch.zeros(3, scheme.uniforms(N, N), **f64)
        table[f"adaptive {name}"] = lambda name=name, u=u: core.adaptive(mask, lw, u, name)
    thin = torch.zeros(3, core.tournament_size(N), **f64)
    table["without_duplicates"] = lambda: core.without_duplicates(lw.exp(), 5, thin)
    for argmax in (False, True):
        table[f"select_children {argmax}"] = lambda a=argmax: core.select_children(
            lw.view(3, 4, 3), lw[:, :4], a
        )
    line = core.Genealogy(3, N).record(index).record(None)
    table["Genealogy"] = lambda: (line.record(index).trace(), line.eves(), line.n_lineages(1))
    table["variance"] = lambda: (
        core.mean_variance(lw, lw, index, index[:, 0], "multinomial"),
        core.evidence_relative_variance(lw, index, index[:, 0], "multinomial"),
        core.n_distinct(index),
    )
    return table


@pytest.mark.parametrize("name", calls())
def test_runs_without_values(name):
    with FakeTensorMode():
        calls()[name]()


def test_a_decision_on_data_would_be_noticed():
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        bool((torch.zeros(3) > 0).any())


@pytest.mark.parametrize("name", core.SCHEMES)
def test_resampling_exports_as_one_graph(name):
    class Resample(torch.nn.Module):
        def forward(self, lw, u):
            return tuple(core.resample(lw, u, name))

    n = 8
    lw = torch.randn(4, n, dtype=torch.float64)
    u = torch.rand(4, core.SCHEMES[name].uniforms(n, n), dtype=torch.float64)
    exported = torch.export.export(Resample(), (lw, u)).module()
    for got, expected in zip(exported(lw, u), core.resample(lw, u, name), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.gpu
def test_runs_without_synchronising_a_gpu():
    table = calls("cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for call in table.values():
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
