"""Problems on the digits model through the command line's machinery, on networks of one's own, and on
latents."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from typer.testing import CliRunner

import itscale
from itscale import runs
from itscale.cli.app import app
from itscale.errors import ConfigError
from itscale.grids.through_grid import Through
from itscale.methods import (
    AFDPS,
    DAPS,
    DDNM,
    DDRM,
    DDSMC,
    DPS,
    FPS,
    LGDMC,
    METHODS,
    MPGD,
    TDS,
    TFG,
    TMPD,
    UGD,
    ConjugateSMC,
    DiffPIR,
    EnKG,
    FreeDoM,
    Guided,
    PiGDM,
    PnPDM,
    REDDiff,
    SMCDiff,
)
from itscale.operators import (
    Bicubic,
    BlockAverage,
    Function,
    GaussianLikelihood,
    Mask,
    PhaseRetrieval,
    PoissonLikelihood,
)
from itscale.operators.metrics import best_of_symmetries, misfit, psnr, ssim
from itscale.operators.perceptual import NETS, Perceptual, find_lpips
from itscale.runs.posterior import LEVELS, coverage
from itscale.runs.posterior_table import clustered_mean, lines, mean
from itscale.runs.recipes import recipe_path
from tests.engine.setting import Network
from tests.engine.test_reproducibility import EQUAL, TENSORS

SPECTRAL = [
    ConjugateSMC(particles=3),
    AFDPS(particles=3),
    DDNM(particles=2),
    DDRM(particles=2, noiseless=True),
    FPS(particles=2),
    TMPD(particles=2),
    SMCDiff(particles=3),
    DDSMC(particles=3, ode_steps=2),
]
SMOOTH = [
    REDDiff(particles=2),
    DiffPIR(particles=2),
    DAPS(particles=2, ode_steps=2, langevin=3),
    PnPDM(particles=2, iterations=2),
]
ANY = [
    DPS(particles=2),
    DPS(particles=3, correct=True),
    PiGDM(particles=3, correct=True, recurrence=2, window=(0.5, 1.0)),
    LGDMC(particles=2, samples=3),
    MPGD(particles=2),
    FreeDoM(particles=2),
    UGD(particles=2),
    TFG(particles=2, correct=True, samples=2),
    TDS(particles=2),
    EnKG(particles=3),
]


MEASURING = {
    name: kind for name, kind in METHODS.items() if issubclass(kind, Guided) or kind().needs.likelihood
}
"""Methods made for measurements, by name."""


def label(method: Any) -> str:
    return type(method).__name__ + ("+" if getattr(method, "correct", False) else "")


def test_no_method_for_measurements_is_left_out_below():
    assert {type(m) for m in (*SPECTRAL, *SMOOTH, *ANY)} == {*MEASURING.values(), TDS}


def pixels(network: Network, event: tuple[int, ...] = (1, 6, 6)) -> Any:
    """A network of one's own on images in [-1, 1]."""
    return itscale.models.wrap(
        network,
        predicts="velocity",
        interpolant="linear",
        event_shape=event,
        conditional=True,
        null_condition=-1.0,
    )


def likelihood(operator: Any, **settings: Any) -> GaussianLikelihood:
    generator = torch.Generator().manual_seed(3)
    return GaussianLikelihood(
        operator, 0.5 * torch.rand(operator.measurement_shape, generator=generator), 0.1
    )


@pytest.mark.parametrize("solver", ["2m-sde", "sde-heun"])
@pytest.mark.parametrize("method", [*SPECTRAL, *SMOOTH, *ANY], ids=label)
def test_a_plan_costs_what_the_run_spends_on_a_wrapped_network(method, solver):
    network = Network((1, 6, 6))
    if method.needs.density:
        solver = "ancestral"
    setting = {
        "reward": likelihood(BlockAverage((1, 6, 6), 3)),
        "method": method,
        "steps": 6,
        "process": itscale.SDE(),
        "solver": solver,
    }
    plan = itscale.preparation.prepare(pixels(network), **setting).plan
    result = itscale.sample(pixels(network), groups=2, condition=1.0, **setting)
    spent = result.spent
    assert spent.nfe == [plan.nfe] * 2
    assert spent.backward_rows == 2 * plan.gradients
    assert spent.reward_calls == [plan.reward_calls] * 2
    assert network.rows == sum(spent.model_rows)
    assert bool(result.samples.isfinite().all())


@pytest.mark.parametrize("method", [*SPECTRAL, *SMOOTH, *ANY], ids=label)
def test_groups_give_equal_bits_alone_and_together(method):
    def run(groups: list[int], conditions: list[float]) -> itscale.Result:
        return itscale.sample(
            pixels(Network((1, 6, 6))),
            reward=likelihood(BlockAverage((1, 6, 6), 2)),
            method=method,
            steps=5,
            groups=groups,
            condition=conditions,
            seed=4,
            pool=itscale.pools.Local(microbatch=8, bitwise=True),
        )

    whole, alone = run([0, 3, 5], [0.0, 1.0, 2.0]), run([3], [1.0])
    for field in TENSORS:
        mine, theirs = (getattr(r, field) for r in (whole, alone))
        torch.testing.assert_close(theirs, mine.narrow(1 if field == "ess" else 0, 1, 1), **EQUAL)


@pytest.mark.parametrize("method", [*SMOOTH, *ANY], ids=label)
@pytest.mark.parametrize(
    "operator", [PhaseRetrieval((1, 6, 6)), Bicubic((1, 6, 6), 2)], ids=lambda o: type(o).__name__
)
def test_other_operators_on_a_wrapped_network(method, operator):
    result = itscale.sample(
        pixels(Network((1, 6, 6))), reward=likelihood(operator), method=method, steps=5, condition=1.0
    )
    assert bool(result.samples.isfinite().all())


@pytest.mark.parametrize("method", [PiGDM(particles=3, correct=True), DPS(particles=2), DAPS(particles=2)])
def test_counts_of_photons(method):
    counts = torch.tensor([[[3.0, 0.0, 1.0]] * 3])
    result = itscale.sample(
        pixels(Network((1, 6, 6))),
        reward=PoissonLikelihood(BlockAverage((1, 6, 6), 2), counts, 4.0),
        method=method,
        steps=5,
        condition=1.0,
    )
    assert bool(result.rewards.isfinite().all())


class Decoder(nn.Module):
    """Half a tiny autoencoder: eight numbers to a picture."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(8, 36, generator=generator) / 3)

    def forward(self, z):
        return torch.sigmoid(z @ self.weight).reshape(-1, 1, 6, 6)


@pytest.mark.parametrize("method", [*SMOOTH, *ANY], ids=label)
def test_a_latent_pipeline_with_the_decoder_in_the_operator(method):
    """A linear operator of pixels; what is measured of the latents goes through the decoder."""
    decoder = Decoder().requires_grad_(False)
    model = itscale.models.wrap(
        lambda x, t: -x, predicts="velocity", interpolant="linear", event_shape=(8,), decode=decoder,
        modality="image",
    )  # fmt: skip
    reward = likelihood(BlockAverage((1, 6, 6), 3))
    result = itscale.sample(model, reward=reward, method=method, steps=8, groups=2)
    assert result.samples.shape[2:] == (1, 6, 6)
    assert bool(result.rewards.isfinite().all())


def test_guidance_through_a_decoder_lowers_the_misfit():
    """The model N(0, I) of latents, exactly; weights by way of the decoder's measurement."""
    decoder = Decoder().requires_grad_(False)
    model = itscale.models.wrap(
        lambda x, t: x * ((2 * t - 1) / (t**2 + (1 - t) ** 2))[:, None], predicts="velocity",
        interpolant="linear", event_shape=(8,), decode=decoder, modality="image",
    )  # fmt: skip
    operator = Mask(torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.3)
    truth = decoder(torch.randn(1, 8, generator=torch.Generator().manual_seed(2)))
    reward = GaussianLikelihood(operator, operator(truth)[0], 0.1)
    plain = itscale.sample(model, n=16, steps=20)
    guided = itscale.sample(model, reward=reward, method=PiGDM(particles=16, correct=True), steps=30)
    before = float(misfit(plain.samples[0], reward).mean())
    after = float((guided.weights[0] * misfit(guided.samples[0], reward)).sum())
    assert after < 0.2 * before


BLACK = Function(lambda x: (x > 0.5).to(x), (1, 6, 6), is_differentiable=False)


@pytest.mark.parametrize(
    ("reward", "method", "message"),
    [
        (likelihood(BlockAverage((1, 8, 8), 2)), "dps", r"measures samples \(1, 8, 8\).*makes \(1, 6, 6\)"),
        (likelihood(BLACK), "dps", "needs the reward's gradient"),
        (likelihood(BLACK), "daps", "follows the gradient of Function, which has none"),
        (likelihood(PhaseRetrieval((1, 6, 6))), "tmpd", "needs an operator with an adjoint"),
        (likelihood(PhaseRetrieval((1, 6, 6))), "ddrm", "a singular value decomposition"),
        (likelihood(Bicubic((1, 6, 6), 2)), "conjugate-smc", "a singular value decomposition"),
        ("ink", "pigdm", "reward= must be a likelihood"),
        (
            PoissonLikelihood(BlockAverage((1, 6, 6), 2), torch.ones(1, 3, 3), 2.0),
            "conjugate-smc",
            "needs Gaussian noise",
        ),
        (likelihood(BlockAverage((1, 6, 6), 2)), ConjugateSMC(potential="conditioning"), "among the levels"),
        (likelihood(BlockAverage((1, 6, 6), 2)), AFDPS(tempered=False), "would diverge"),
    ],
)
def test_what_cannot_work_is_refused_before_any_network_call(reward, method, message):
    network = Network((1, 6, 6))
    with pytest.raises(ConfigError, match=message):
        itscale.sample(pixels(network), reward=reward, method=method, steps=6, condition=1.0)
    assert network.rows == 0


def test_a_linear_method_on_a_decoder_says_what_to_use():
    model = itscale.models.wrap(
        lambda x, t: -x, predicts="velocity", interpolant="linear", event_shape=(8,), decode=Decoder(),
        modality="image",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"decoder is not affine; use a method that follows gradients"):
        itscale.sample(model, reward=likelihood(BlockAverage((1, 6, 6), 3)), method="ddnm")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPS(zeta=0.0), "zeta"),
        (lambda: PiGDM(prior_std=-1.0), "prior_std"),
        (lambda: PiGDM(cap=0.0), "cap"),
        (lambda: PiGDM(window=(0.7, 0.2)), "window"),
        (lambda: PiGDM(recurrence=0), "recurrence"),
        (lambda: TMPD(covariance="full"), "covariance"),
        (lambda: TFG(rho=0.0, mu=0.0), "nothing would be guided"),
        (lambda: TFG(rho_schedule="rising"), "rho_schedule"),
        (lambda: LGDMC(samples=0), "samples"),
        (lambda: ConjugateSMC(potential="narrow"), "potential"),
        (lambda: ConjugateSMC(kappa=0.0), "kappa"),
        (lambda: DDRM(eta=1.5), "eta"),
        (lambda: DiffPIR(weight=0.0), "weight"),
        (lambda: DAPS(ode_steps=0), "ode_steps"),
        (lambda: PnPDM(rho_start=0.1, rho_end=0.2), "rho_end"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def small(**problem: Any) -> dict[str, Any]:
    return {
        "model": "digits",
        "process": "sde",
        "problem": {"name": "super-resolution", "noise": 0.1, **problem},
        "run": {"steps": 6, "groups": 2, "budget": {"model_rows": 60}},
        "sweep": {"method": ["smc", {"name": "pigdm", "correct": True}, "ddrm"], "run.seed": [0, 1]},
    }


def test_a_run_reports_posteriors(tmp_path):
    summary = runs.run(small(), out=tmp_path / "run")
    assert summary.exit_code == 0
    row = summary.rows[0]
    assert row["posterior"].keys() == {
        "psnr", "psnr_draw", "ssim", "lpips", "misfit", "width", "coverage",
    }  # fmt: skip
    found = lines(summary.rows)
    assert [(line.problem, line.method, len(line.cells)) for line in found] == [
        ("super-resolution", "smc", 2),
        ("super-resolution", "pigdm", 2),
        ("super-resolution", "ddrm", 2),
    ]
    maps = [np.load(tmp_path / "run" / "cells" / r["cell"] / "posterior.npz") for r in summary.rows]
    by_seed = {r["config"]["run"]["seed"]: m for r, m in zip(summary.rows, maps, strict=True)}
    for r, m in zip(summary.rows, maps, strict=True):  # all methods see one truth and one measurement
        np.testing.assert_array_equal(m["measurement"], by_seed[r["config"]["run"]["seed"]]["measurement"])
    assert not np.array_equal(by_seed[0]["truth"], by_seed[1]["truth"])
    page = runs.report(tmp_path / "run").read_text()
    assert "Are the intervals right?" in page
    assert "over 2 truths, each measured in several ways" in page
    assert ("No LPIPS: " in page) == (row["posterior"]["lpips"] is None)
    assert "http" not in page.split("<body>")[1].replace("http://www.w3.org", "")
    assert (tmp_path / "run" / "posterior-super-resolution.png").exists()
    assert (tmp_path / "run" / "calibration.png").exists()


def test_the_recipe_is_planned_without_drawing_anything(monkeypatch):
    monkeypatch.setattr("itscale.runs.problems._truth", lambda draw: pytest.fail("a truth was drawn"))
    plan = runs.plan(runs.load_config("inpainting"))
    assert recipe_path("inpainting").exists()
    assert {cell.method.partition(" ")[0] for cell in plan.cells} >= {"smc", "dps", "pigdm"}


@pytest.mark.parametrize("name", sorted(runs.problems.PROBLEMS))
def test_every_problem_measures_and_is_reconstructed(name):
    config = {**small(), "problem": {"name": name}, "run": {"steps": 4}, "sweep": {}}
    config["method"] = {"name": "dps", "particles": 2}
    (cell,) = runs.load_config(config).cells
    measured = cell.measured
    assert measured is not None
    truth, given = measured.truth, measured.likelihood
    assert bool(given(truth[None]).isfinite().all())
    # a measurement is as far from the truth as its noise says
    assert 0.3 < float(misfit(truth[None], given)) < 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": {"name": "inpaintng"}}, r"unknown problem 'inpaintng'.*'inpainting'"),
        ({"problem": {"name": "inpainting", "shre": 0.5}}, r"unknown key 'problem.shre'.*'share'"),
        ({"reward": "ink"}, "leave reward out"),
        ({"model": {"name": "digits", "condition": [1, 2]}}, "one condition"),
        ({"problem": {"name": "inpainting", "noise": 0.0}}, "sigma must be"),
        ({"model": "gaussian-mixture"}, "a problem measures images"),
    ],
)
def test_problems_that_cannot_be_are_refused_before_anything_runs(change, message):
    with pytest.raises(ConfigError, match=message):
        runs.plan(runs.load_config({**small(), **change}))


def test_fidelity_agrees_with_its_definitions():
    truth = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noisy = (truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert float(psnr(truth + 0.1, truth)) == pytest.approx(20.0, abs=1e-4)
    assert float(ssim(truth, truth)) == pytest.approx(1.0)
    assert float(ssim(noisy, truth)) < 1
    turned = truth.flip(-1, -2).roll((2, 3), (-2, -1))
    torch.testing.assert_close(best_of_symmetries(truth.flip(-1, -2), truth), truth)
    torch.testing.assert_close(best_of_symmetries(turned, truth, shift=True), truth)
    with pytest.raises(ConfigError, match="at least 11 x 11"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_lpips_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = find_lpips()
    assert isinstance(found, str)
    assert "alexnet" in found or "not installed" in found
    assert "\n" not in found
    with pytest.raises(ConfigError, match=r"LPIPS with 'vgg': "):
        Perceptual("vgg")
    with pytest.raises(ConfigError, match="net must be one of alex, vgg, squeeze"):
        Perceptual("alexnet")


@pytest.mark.slow
def test_lpips_is_the_library_s(monkeypatch, tmp_path):
    """With a network of random weights in the cache: zero for equal pictures, one by one as all at once."""
    image = pytest.importorskip("torchmetrics.functional.image")
    vision = pytest.importorskip("torchvision.models")
    models = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
    urls = {net: vision.get_model_weights(name)["IMAGENET1K_V1"].url for net, name in models.items()}
    assert all(url.endswith("/" + NETS[net]) for net, url in urls.items())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    home = tmp_path / "hub" / "checkpoints"
    home.mkdir(parents=True)
    torch.save(vision.squeezenet1_1(weights=None).state_dict(), home / "squeezenet1_1-b8a52dc0.pth")
    look = find_lpips()
    assert look == Perceptual("squeeze")
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = (truth + 0.2 * torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    found = look(noisy, truth)
    theirs = [
        image.learned_perceptual_image_patch_similarity(one[None], truth, net_type="squeeze", normalize=True)
        for one in noisy
    ]
    torch.testing.assert_close(found.float(), torch.stack(theirs), rtol=1e-4, atol=1e-6)
    assert float(look(truth, truth)) == 0
    small = look(noisy[:1, :1, :28, :28], truth[:, :1, :28, :28])  # grey and smaller than the networks take
    assert float(small) > 0


@pytest.mark.slow
def test_fidelity_agrees_with_the_library():
    metrics = pytest.importorskip("torchmetrics.functional.image")
    truth = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    noisy = (truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    _, maps = metrics.structural_similarity_index_measure(
        noisy, truth, data_range=1.0, return_full_image=True
    )
    inside = (
        maps[..., 5:-5, 5:-5].flatten(1).mean(1)
    )  # the library also averages windows over reflected edges
    torch.testing.assert_close(ssim(noisy, truth).float(), inside, rtol=0, atol=1e-5)
    peak = metrics.peak_signal_noise_ratio(noisy, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr(noisy, truth).float(), peak, rtol=1e-5, atol=1e-5)


def test_coverage_is_that_of_the_intervals():
    """Truth and 400 samples from one law: intervals of 64 dependent projections, pooled over 40 truths."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(16, 16, generator=generator) / 4

    def held(width: float) -> Tensor:
        found = []
        for _ in range(40):
            x = torch.randn(400, 16, generator=generator) @ mixing
            truth = (torch.randn(16, generator=generator) @ mixing).reshape(1, 4, 4)
            w = torch.full((400,), 1 / 400, dtype=torch.float64)
            found.append(coverage(width * x.reshape(-1, 1, 4, 4), w, truth))
        return torch.tensor(found)

    right = held(1.0)
    error = right.std(0) / 40**0.5  # truths are independent, projections of one truth are not
    assert bool(((right.mean(0) - torch.tensor(LEVELS)).abs() < 4.89 * error).all())
    assert float(held(0.5).mean(0)[2]) < 0.75  # half as wide as they should be


def test_errors_are_those_of_clusters():
    """Whole clusters of equal values are as good as one value each; alone they are the usual error."""
    values = [0.2, 0.9, 0.4, 0.7]
    usual = mean(values)
    alone = clustered_mean((str(i), v) for i, v in enumerate(values))
    copied = clustered_mean((str(i), v) for i, v in enumerate(values) for _ in range(5))
    for found in (alone, copied):
        assert found.value == pytest.approx(usual.value)
        assert found.error == pytest.approx(usual.error)
    assert math.isnan(clustered_mean([("a", 0.3), ("a", 0.5)]).error)
    assert math.isnan(clustered_mean([]).value)


def test_coverage_counts_weights_and_not_samples():
    x = torch.cat([torch.zeros(50, 1, 4, 4), 100 * torch.ones(50, 1, 4, 4)])
    x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    w = torch.cat([torch.full((50,), 0.02), torch.zeros(50)]).double()
    assert coverage(x, w, torch.zeros(1, 4, 4))[2] > 0.95
    assert coverage(x, w.flip(0), torch.zeros(1, 4, 4))[2] < 0.05  # of projections that nearly cancel


def test_a_grid_goes_through_the_levels_it_is_given():
    path = itscale.interpolants.Linear()
    times = Through((0.5, 0.052, 0.05))(path, 20, 0.0)
    assert len(times) == 21
    assert bool((times.diff() > 0).all())
    kappa = path.kappa(times[1:-1])
    for wanted in (0.5, 0.052, 0.05):
        assert float((kappa / wanted - 1).abs().min()) < 1e-9
    with pytest.raises(ConfigError, match="do not fit into 3 steps"):
        Through((0.5, 0.4, 0.3))(path, 3, 0.0)


def test_the_recipe_from_the_command_line(tmp_path, capsys):
    overrides = ["problem.name=deblurring", "run.seed=3", "method=ddnm", "run.budget=null"]
    config = runs.load_config("inpainting", [*overrides, "method.particles=2", "run.steps=5"])
    summary = runs.run(config, out=tmp_path / "one")
    assert summary.exit_code == 0
    assert [line.problem for line in lines(summary.rows)] == ["deblurring"]


@pytest.mark.parametrize("method", SPECTRAL, ids=label)
def test_what_needs_a_linear_map_of_states_is_refused_behind_a_decoder(method):
    model = itscale.models.wrap(
        lambda x, t: -x, predicts="velocity", interpolant="linear", event_shape=(8,), decode=Decoder(),
        modality="image",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"decoder is not affine; use a method that follows gradients"):
        itscale.sample(model, reward=likelihood(BlockAverage((1, 6, 6), 3)), method=method, steps=4)


@pytest.mark.slow
def test_every_method_from_the_command_line(tmp_path):
    """On digits, two particles in four steps; what is linear, spectral and Gaussian suits them all."""
    methods = [{"name": name, "particles": 2} for name in (*MEASURING, "smc", "tds", "das")]
    methods += [{"name": name, "particles": 2, "correct": True} for name in ("dps", "pigdm", "mpgd", "tfg")]
    file = tmp_path / "all.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "model": "digits",
                "problem": {"name": "super-resolution", "factor": 7, "noise": 0.2},
                "process": "sde",
                "solver": "ancestral",
                "run": {"steps": 4},
                "sweep": {"method": methods},
            }
        )
    )
    done = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["config"]["method"]["name"] for row in rows] == [m["name"] for m in methods]
    for row in rows:
        assert row["posterior"]["psnr"] > 5, row["method"]
        assert math.isfinite(row["posterior"]["misfit"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [m for m in (*SMOOTH, *ANY) if not isinstance(m, (TDS, PiGDM, LGDMC, UGD, TFG))],
    ids=label,
)
def test_other_methods_measure_a_latent_diffusion_pipeline(method):
    pytest.importorskip("diffusers")
    from itscale.models.pipelines import tiny

    model = itscale.load(tiny.stable_diffusion())
    shape = tuple(itscale.sample(model, n=1, steps=2, condition="a dog").samples.shape[2:])
    reward = likelihood(BlockAverage(shape, 8))
    result = itscale.sample(model, reward=reward, method=method, steps=3, condition="a dog")
    assert bool(result.rewards.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize("method", [TDS(particles=4), PiGDM(particles=4, correct=True)], ids=label)
def test_a_latent_diffusion_pipeline_is_measured_through_its_decoder(method):
    """Stable Diffusion's architecture with random weights: block averages of its pictures, states are
    latents."""
    pytest.importorskip("diffusers")
    from itscale.models.pipelines import tiny

    model = itscale.load(tiny.stable_diffusion())
    truth = itscale.sample(model, n=1, steps=4, condition="a dog", seed=3).samples[0]
    operator = BlockAverage(tuple(truth.shape[1:]), 4)
    reward = GaussianLikelihood(operator, operator(truth)[0], 0.05)
    settings = {"steps": 8, "condition": "a dog", "seed": 5}
    plain = itscale.sample(model, n=4, **settings)
    guided = itscale.sample(model, reward=reward, method=method, **settings)
    assert guided.spent.backward_rows == 4 * 7
    assert float(misfit(guided.samples[0], reward).mean()) < 0.9 * float(
        misfit(plain.samples[0], reward).mean()
    )
    with pytest.raises(ConfigError, match="decoder is not affine"):
        itscale.sample(model, reward=reward, method="ddnm", **settings)
