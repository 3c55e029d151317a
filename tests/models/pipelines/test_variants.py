"""What families can do beside their plain call: other releases, guidance of another kind, more inputs."""

from __future__ import annotations

import diffusers
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models import Guidance
from itscale.models.pipelines import tiny
from tests.models.pipelines.calls import CALLS, NEGATIVE, STEPS, Call
from tests.models.pipelines.setting import PROMPT, TOLERANCE, latents_of, pipe_of, sampled
from tests.models.pipelines.test_parity import size_of


def agree(pipe, call, monkeypatch):
    model = itscale.load(pipe, **call.options)
    latents = latents_of(model)
    mine = sampled(model, latents, STEPS, **call.settings)
    theirs = call(pipe, latents, [], monkeypatch)
    assert float((mine - theirs).abs().max()) <= TOLERANCE * size_of(theirs)
    return mine


def test_schnell_takes_no_guidance(monkeypatch):
    pipe = tiny.flux(guided=False)
    agree(pipe, Call({"prompt": PROMPT, "max_sequence_length": 256}), monkeypatch)
    with pytest.raises(ConfigError, match="distilled to run without"):
        itscale.sample(itscale.load(pipe), n=1, steps=2, condition=PROMPT, guidance=3.0)


def test_flux_can_be_led_away_from_a_prompt(monkeypatch):
    call = Call(
        {"prompt": PROMPT, "negative_prompt": NEGATIVE, "true_cfg_scale": 3.0, "guidance_scale": 2.0},
        {"guidance": 3.0},
        {"true_guidance": True, "negative_prompt": NEGATIVE, "embedded_guidance": 2.0},
    )
    agree(pipe_of("flux"), call, monkeypatch)


def test_guidance_of_a_distilled_network_is_free():
    model = itscale.load(pipe_of("flux"))
    guided = itscale.sample(model, n=2, steps=2, condition=PROMPT, guidance=7.0)
    assert guided.spent.model_rows == guided.spent.nfe
    plain = itscale.sample(
        itscale.load(pipe_of("flux"), embedded_guidance=7.0), n=2, steps=2, condition=PROMPT
    )
    assert torch.equal(guided.states, plain.states)


def test_second_network_takes_over_where_noise_is_low(monkeypatch):
    size = {"height": 16, "width": 16}
    pipe = tiny.wan(second=True)
    call = Call(
        {"prompt": PROMPT, "guidance_scale": 3.0, "num_frames": 9, "num_videos_per_prompt": 3,
         "num_images_per_prompt": None, **size},
        {"guidance": 3.0},
        {"frames": 9, **size},
    )  # fmt: skip
    agree(pipe, call, monkeypatch)
    model = itscale.load(pipe, frames=9, **size)
    x, t = latents_of(model), torch.tensor([0.01, 0.5, 0.02], dtype=torch.float64)  # rows on both sides
    encoded = model.encode([PROMPT] * 3)
    rows = [model.predict(x[i : i + 1], t[i : i + 1], model.encode([PROMPT])) for i in range(3)]
    torch.testing.assert_close(model.predict(x, t, encoded), torch.cat(rows))


def test_flow_scheduler_of_unipc_rounds_its_labels(monkeypatch):
    size = {"height": 16, "width": 16}
    pipe = tiny.wan()
    pipe.scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    call = Call(
        {"prompt": PROMPT, "guidance_scale": 1.0, "num_frames": 9, "num_videos_per_prompt": 3,
         "num_images_per_prompt": None, **size},
        {},
        {"frames": 9, **size},
    )  # fmt: skip
    agree(pipe, call, monkeypatch)


def test_negative_prompt_of_the_model_is_that_of_every_condition():
    model = itscale.load(pipe_of("stable-diffusion"), negative_prompt=NEGATIVE)
    latents = latents_of(model, 2)
    own = {"prompt": PROMPT, "negative_prompt": NEGATIVE}
    mine = sampled(model, latents, 2, guidance=4.0)
    theirs = sampled(itscale.load(pipe_of("stable-diffusion")), latents, 2, guidance=4.0, condition=own)
    torch.testing.assert_close(mine, theirs)


def test_control_image_reaches_the_network(monkeypatch):
    plain = tiny.stable_diffusion()
    torch.manual_seed(0)
    control = diffusers.ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(4, 8))
    for p in control.parameters():  # its outputs begin at zero
        torch.nn.init.normal_(p, std=0.2)
    pipe = diffusers.StableDiffusionControlNetPipeline(
        **plain.components, controlnet=control, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 32, 32)
    model = itscale.load(pipe)
    condition = {"prompt": PROMPT, "control_image": image}
    mine = agree(
        pipe,
        Call({"prompt": PROMPT, "image": image, "guidance_scale": 4.0, "height": 32, "width": 32},
             {"guidance": 4.0, "condition": condition}),
        monkeypatch,
    )  # fmt: skip
    assert not torch.allclose(mine, sampled(model, latents_of(model), STEPS, guidance=4.0), atol=1e-2)


def test_image_embeddings_of_an_adapter_reach_the_network(monkeypatch):
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    plain = tiny.stable_diffusion()
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, image_size=16,
        patch_size=8, projection_dim=8,
    )  # fmt: skip
    parts = {k: v for k, v in plain.components.items() if k not in ("image_encoder", "feature_extractor")}
    pipe = diffusers.StableDiffusionPipeline(
        **parts,
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        feature_extractor=CLIPImageProcessor(crop_size=16, size=16),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.unet._load_ip_adapter_weights([ip_adapter_weights(pipe.unet)])
    image = torch.rand(3, 16, 16)
    from torchvision.transforms.functional import to_pil_image

    picture = to_pil_image(image)
    condition = {"prompt": PROMPT, "ip_adapter_image": picture}
    agree(
        pipe,
        Call({"prompt": PROMPT, "ip_adapter_image": picture, "guidance_scale": 4.0},
             {"guidance": 4.0, "condition": condition}),
        monkeypatch,
    )  # fmt: skip


def ip_adapter_weights(unet):
    """Random weights of an IP-Adapter for a tiny network."""
    image_proj = {
        "proj.weight": torch.randn(4 * 8, 8),
        "proj.bias": torch.randn(4 * 8),
        "norm.weight": torch.ones(8),
        "norm.bias": torch.zeros(8),
    }
    adapter, key = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).inner_dim
            adapter[f"{key}.to_k_ip.weight"] = torch.randn(width, 8)
            adapter[f"{key}.to_v_ip.weight"] = torch.randn(width, 8)
            key += 2
    return {"image_proj": image_proj, "ip_adapter": adapter}


def test_lora_weights_change_what_is_asked(monkeypatch):
    from peft import LoraConfig

    pipe = tiny.stable_diffusion()
    model = itscale.load(pipe)
    latents = latents_of(model)
    before = sampled(model, latents, STEPS)
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    after = agree(pipe, Call({"prompt": PROMPT, "guidance_scale": 1.0}), monkeypatch)
    assert not torch.allclose(before, after, atol=1e-3)


def test_slicing_and_tiling_of_the_decoder_are_respected():
    pipe = tiny.stable_diffusion()
    model = itscale.load(pipe, decode_rows=2)
    x = latents_of(model, 3)
    whole = model.decode(x)
    pipe.vae.enable_slicing()
    torch.testing.assert_close(model.decode(x), whole)
    assert torch.equal(itscale.load(pipe, decode_rows=1).decode(x)[2], model.decode(x[2:])[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks_keep_states_in_float32(dtype):
    pipe = tiny.stable_diffusion().to(dtype)
    model = itscale.load(pipe)
    result = itscale.sample(model, n=2, steps=3, condition=PROMPT, guidance=2.0)
    assert result.states.dtype == result.samples.dtype == torch.float32
    full = itscale.sample(itscale.load(tiny.stable_diffusion()), n=2, steps=3, condition=PROMPT, guidance=2.0)
    error = (result.states - full.states).norm() / full.states.norm()
    assert float(error) < 0.05


def test_experts_share_one_call_of_the_network():
    model = itscale.load(pipe_of("stable-diffusion"))
    product = model.given("a cat") ** 0.5 * model.given("a dog") ** 0.5
    result = itscale.sample(product, particles=2, steps=3)
    assert result.spent.network_calls == 3
    assert result.spent.total("model_rows") == 2 * 2 * 3


def test_rescaled_guidance_is_the_pipeline_s_own(monkeypatch):
    rule = Guidance(weight=7.5, rescale=0.7)
    call = Call({"prompt": PROMPT, "guidance_scale": 7.5, "guidance_rescale": 0.7}, {"guidance": rule})
    pipe = pipe_of("stable-diffusion")
    mine, model = agree(pipe, call, monkeypatch), itscale.load(pipe)
    plain = sampled(model, latents_of(model), STEPS, guidance=7.5)
    assert float((mine - plain).abs().max()) > 0.01


GUIDED = (
    "stable-diffusion",
    "stable-diffusion-xl",
    "stable-diffusion-3",
    "flux",
    "pixart",
    "dit",
    "wan",
    "ltx",
)


@pytest.mark.parametrize("family", GUIDED)
def test_every_family_takes_a_limited_and_projected_guidance(family):
    call = CALLS[family]
    options = {**call.options, **({"true_guidance": True} if family == "flux" else {})}
    model = itscale.load(pipe_of(family), **options)
    rule = Guidance(weight=4.0, parallel=0.0, norm=5.0, rescale=0.5, interval=(0.1, 3.0))
    settings = {"condition": PROMPT, **call.settings, "guidance": rule, "steps": 4, "n": 2}
    result = itscale.sample(model, **settings)
    assert result.states.isfinite().all()
    assert 8 < result.spent.model_rows[0] < 16


def test_a_network_that_is_told_its_weight_takes_no_more():
    with pytest.raises(ConfigError, match="true_guidance"):
        itscale.load(pipe_of("flux")).given("a cat", Guidance(weight=3.0, rescale=0.5))
