"""Methods on pipelines: gradients through network and decoder, starts in the middle, and memory."""

from __future__ import annotations

import diffusers
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models import Inpainted
from itscale.models.pipelines import tiny
from itscale.pools import Local
from itscale.process import Start
from tests.models.pipelines.setting import PROMPT, TOLERANCE, latents_of, pipe_of, sampled


@itscale.reward(name="redness", modality="image", differentiable=True)
def redness(images):
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))


@pytest.mark.parametrize("method", ["tds", "das", "dno"])
@pytest.mark.parametrize("family", ["stable-diffusion", "flux"])
def test_gradients_go_through_reward_decoder_and_network(family, method):
    model = itscale.load(pipe_of(family))
    budget = itscale.Budget(nfe=90)
    result = itscale.sample(
        model, reward=redness, method=method, condition=PROMPT, steps=3, tilt=50.0, budget=budget, seed=1
    )
    plain = itscale.sample(model, reward=redness, method="unguided", condition=PROMPT, n=8, steps=3, seed=1)
    assert result.spent.backward_rows > 0
    # dno climbs from the noise of the first particle; the others have several
    floor = plain.rewards[0, 0] if method == "dno" else plain.rewards.mean()
    assert float(result.rewards.max()) > float(floor)


def test_gradient_is_that_of_differences_and_of_kept_activations():
    x = latents_of(itscale.load(pipe_of("stable-diffusion")), 2).double()
    found = []
    for checkpointing in (True, False):
        pipe = tiny.stable_diffusion().to(torch.float64)
        model = itscale.load(pipe, checkpointing=checkpointing)
        assert model.network.is_gradient_checkpointing is checkpointing

        def score(x, model=model):
            t = torch.tensor(0.6, dtype=torch.float64)
            raw = model.predict(x, t, model.encode([PROMPT] * len(x)))
            c = itscale.interpolants.coefficients(model.interpolant, t)
            return redness(model.decode(itscale.interpolants.denoised("noise", raw, x, c)))

        with torch.enable_grad():
            state = x.clone().requires_grad_()
            found.append(torch.autograd.grad(score(state).sum(), state)[0])
    torch.testing.assert_close(found[0], found[1])
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        slope = (score(x + 1e-3 * direction) - score(x - 1e-3 * direction)) / 2e-3
    along = (found[1] * direction).flatten(1).sum(1)
    # pixels leave the autoencoder in float32: differences carry its rounding over the step, 1e-7 / 1e-3
    torch.testing.assert_close(along.float(), slope.float(), atol=3e-4, rtol=1e-2)


def strengthened(pipe, strength, steps):
    """Where an image-to-image pipeline of this strength starts, in time."""
    scheduler = itscale.load(pipe).scheduler(steps)
    label = scheduler.timesteps[steps - int(steps * strength)]
    return (999 - float(label)) / 1000


def test_start_in_the_middle_is_image_to_image(monkeypatch):
    plain = pipe_of("stable-diffusion")
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**plain.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    model = itscale.load(pipe)
    latents, image = latents_of(model), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    states = model.encode_image(image)
    file = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img
    monkeypatch.setattr(file, "randn_tensor", lambda *_, **__: latents)
    monkeypatch.setattr(file, "retrieve_latents", lambda found, generator=None: found.latent_dist.mode())
    theirs = pipe(
        PROMPT, image=image, strength=0.6, num_inference_steps=5, guidance_scale=4.0, num_images_per_prompt=3,
        output_type="latent",
    ).images  # fmt: skip
    start = Start(states, strengthened(pipe, 0.6, 5))
    mine = sampled(model, latents, 5, guidance=4.0, start_at=start)
    assert float((mine - theirs).abs().max()) <= TOLERANCE * max(1.0, float(theirs.abs().max()) / 10)


def test_known_part_is_replaced_as_inpainting_pipelines_do(monkeypatch):
    plain = pipe_of("stable-diffusion")
    pipe = diffusers.StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(plain.scheduler.config, set_alpha_to_one=True)
    pipe.set_progress_bar_config(disable=True)
    plain = tiny.stable_diffusion()
    plain.scheduler = pipe.scheduler
    model = itscale.load(plain)
    latents, image = latents_of(model), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1  # generate the left half
    file = diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint
    monkeypatch.setattr(file, "retrieve_latents", lambda found, generator=None: found.latent_dist.mode())
    theirs = pipe(
        PROMPT, image=2 * image - 1, mask_image=mask, strength=1.0, num_inference_steps=5, guidance_scale=4.0,
        num_images_per_prompt=3, latents=latents, output_type="latent", height=32, width=32,
    ).images  # fmt: skip
    known = model.encode_image(image)[0]
    told = Inpainted(model, known, mask[0, :, ::2, ::2])
    # the pipeline's noise has size 1 where the path's first noise level is a little below
    first = float(model.interpolant.sigma((999 - float(model.scheduler(5).timesteps[0])) / 1000))
    result = itscale.sample(
        told, n=3, steps=5, condition=PROMPT, guidance=4.0, solver="ddim", initial=latents[None] / first,
        process=itscale.ODE(), grid=lambda *_: labels(model, 5),
    )  # fmt: skip
    mine = result.states[0]
    assert float((mine[..., 8:] - known[..., 8:]).abs().max()) < 1e-5
    free = (mine - theirs)[..., :8].abs().max()
    assert float(free) <= 10 * TOLERANCE * max(1.0, float(theirs.abs().max()))


def labels(model, steps):
    times = (999 - model.scheduler(steps).timesteps.double()) / 1000
    return torch.cat([times, torch.ones(1, dtype=torch.float64)])


def test_bad_starts_are_refused():
    model = itscale.load(pipe_of("stable-diffusion"))
    x = latents_of(model, 1)[0]
    for start, message in [
        (Start(x[:2], 0.4), "give .groups"),
        ("now", "must be a Start"),
        (Start(x, 0.4), "moves among the noises"),
    ]:
        settings = {"method": "psi-smc", "reward": redness} if "among" in message else {}
        with pytest.raises(ConfigError, match=message):
            itscale.sample(model, n=2, steps=3, condition=PROMPT, start_at=start, **settings)
    with pytest.raises(ConfigError, match="time t in"):
        Start(x, 1.0)
    with pytest.raises(ConfigError, match="broadcast"):
        Inpainted(model, x, torch.ones(3))


class Counted:
    """Counts rows of every call of the network, and runs out of memory above a limit."""

    def __init__(self, model, limit=10**9):
        self.model, self.limit, self.rows = model, limit, []
        self.plain = model.pipe.unet.forward

    def __enter__(self):
        def forward(x, *args, **kwargs):
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            self.rows.append(len(x))
            return self.plain(x, *args, **kwargs)

        self.model.pipe.unet.forward = forward
        return self

    def __exit__(self, *_):
        self.model.pipe.unet.forward = self.plain


def test_micro_batch_is_halved_where_memory_runs_out():
    model = itscale.load(tiny.stable_diffusion())
    settings = {"reward": redness, "condition": PROMPT, "guidance": 3.0, "n": 6, "steps": 3, "tilt": 9.0}
    with Counted(model, limit=4) as seen:
        result = itscale.sample(model, pool=Local(microbatch="auto"), **settings)
    assert max(seen.rows) == 4
    assert any("4 model rows a call; pool.microbatch=4" in w for w in result.warnings)
    small = itscale.sample(model, pool=Local(microbatch=4), **settings)
    torch.testing.assert_close(result.states, small.states)
    assert result.spent.nfe == small.spent.nfe
    assert result.spent.reward_calls == small.spent.reward_calls
    with Counted(model, limit=1), pytest.raises(torch.OutOfMemoryError):
        itscale.sample(model, **settings)  # two rows a particle do not fit, and nothing smaller is left


def test_other_errors_are_not_taken_for_memory():
    model = itscale.load(tiny.stable_diffusion())
    with Counted(model) as seen:
        seen.plain = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes do not match"))
        with pytest.raises(RuntimeError, match="shapes do not match"):
            itscale.sample(model, n=4, steps=2, condition=PROMPT)


def test_many_particles_pass_in_micro_batches():
    model = itscale.load(tiny.stable_diffusion(), decode_rows=8)
    with Counted(model) as seen:
        result = itscale.sample(
            model, n=256, steps=2, condition=PROMPT, guidance=2.0, pool=Local(microbatch=32, states="cpu")
        )
    assert max(seen.rows) == 32
    assert sum(seen.rows) == 256 * 2 * 2 == result.spent.total("model_rows")


def test_states_may_lie_elsewhere_than_the_model(monkeypatch):
    """Rows on the CPU and a model elsewhere: every tensor that it is handed must have been brought to it."""
    model, moved = itscale.load(tiny.stable_diffusion()), []
    plain = torch.Tensor.to

    def to(self, *args, **kwargs):
        if args and str(args[0]) == "cpu:0":
            moved.append(tuple(self.shape))
            args = ("cpu", *args[1:])
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    pool = Local(microbatch=2, states="cpu", device="cpu:0")
    result = itscale.sample(model, n=4, steps=2, condition=PROMPT, pool=pool)
    assert moved.count((2, 4, 16, 16)) >= 2 * 2 + 2  # every look, and every decoded sample
    same = itscale.sample(model, n=4, steps=2, condition=PROMPT, pool=Local(microbatch=2))
    assert torch.equal(result.states, same.states)


def test_bad_pools_are_refused():
    for settings, message in [
        ({"microbatch": "all"}, "or 'auto'"),
        ({"microbatch": 0}, "or 'auto'"),
        ({"microbatch": "auto", "bitwise": True}, "bitwise"),
        ({"states": "disk"}, "'device' or 'cpu'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Local(**settings)


def test_previews_are_near_the_decoded_pictures():
    model = itscale.load(tiny.stable_diffusion())
    x = 0.3 * latents_of(model, 4)
    small = model.preview(x)
    assert small.shape == (4, 3, 16, 16)
    target = torch.nn.functional.avg_pool2d(model.decode(x), 2)
    assert float((small - target).square().mean()) < float(target.var())
    assert itscale.load(model.pipe, decoder="preview").decode(x).equal(small)


def test_tiny_autoencoder_decodes_in_place_of_the_full_one():
    torch.manual_seed(0)
    small = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    )  # fmt: skip
    model = itscale.load(pipe_of("stable-diffusion"), decoder="tiny", tiny=small)
    x = latents_of(model, 2)
    expected = ((small.decode(x, return_dict=False)[0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(model.decode(x), expected)
