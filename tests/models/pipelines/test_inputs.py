"""ControlNet and IP-Adapter images of flow families reach the network as the pipeline passes them on."""

from __future__ import annotations

import diffusers
import pytest
import torch

import itscale
from itscale.errors import ConfigError
from itscale.models.pipelines import tiny
from tests.models.pipelines.calls import NEGATIVE, Call
from tests.models.pipelines.setting import PROMPT, latents_of, sampled
from tests.models.pipelines.test_variants import STEPS, agree

NEGATED = {"prompt": PROMPT, "negative_prompt": NEGATIVE}


@pytest.fixture(autouse=True)
def mode(monkeypatch):
    """Let the pipelines encode a control image as its most likely latents, which the adapters take."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Law

    monkeypatch.setattr(Law, "sample", lambda self, generator=None: self.mode())


def spread(module, std=0.2):
    """Random weights everywhere: outputs of these parts begin at zero."""
    torch.manual_seed(0)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=std)
    return module.eval()


def controlled(family, is_bare=False):
    plain = tiny.flux() if family == "flux" else tiny.stable_diffusion_3(layers=2)
    if family == "flux":
        net = diffusers.FluxControlNetModel.from_transformer(
            plain.transformer, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, load_weights_from_transformer=False,
        )  # fmt: skip
        kind = diffusers.FluxControlNetPipeline
    else:
        config = {k: plain.transformer.config[k] for k in CONTROL}
        net = diffusers.SD3ControlNetModel(**config, force_zeros_for_pooled_projection=is_bare)
        kind = diffusers.StableDiffusion3ControlNetPipeline
    pipe = kind(**plain.components, controlnet=spread(net))
    if family == "flux":
        pipe.default_sample_size = 16
    pipe.set_progress_bar_config(disable=True)
    return pipe


CONTROL = (
    "sample_size", "patch_size", "in_channels", "num_layers", "attention_head_dim", "num_attention_heads",
    "joint_attention_dim", "caption_projection_dim", "pooled_projection_dim", "out_channels",
)  # fmt: skip


@pytest.mark.parametrize("family", ["flux", "stable-diffusion-3", "stable-diffusion-3, bare"])
def test_control_image_reaches_the_network(family, monkeypatch):
    pipe = controlled(family.partition(",")[0], is_bare="bare" in family)
    image = torch.rand(1, 3, 32, 32)
    given = {"prompt": PROMPT} if family == "flux" else NEGATED
    size = {"height": 32, "width": 32}
    call = Call(
        {**given, **size, "control_image": image, "guidance_scale": 4.0},
        {"guidance": 4.0, "condition": {**given, "control_image": image}},
        size,
    )
    mine, model = agree(pipe, call, monkeypatch), itscale.load(pipe, **size)
    plain = sampled(model, latents_of(model), STEPS, guidance=4.0, condition=given)
    assert not torch.allclose(mine, plain, atol=1e-2)


def adapted(family):
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    plain = getattr(tiny, family.replace("-", "_"))()
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_attention_heads=2, num_hidden_layers=2, image_size=16,
        patch_size=8, projection_dim=8,
    )  # fmt: skip
    parts = {k: v for k, v in plain.components.items() if k not in ("image_encoder", "feature_extractor")}
    pipe = type(plain)(
        **parts,
        image_encoder=spread(CLIPVisionModelWithProjection(vision)),
        feature_extractor=CLIPImageProcessor(crop_size=16, size=16),
    )
    if family == "flux":
        pipe.default_sample_size = 16
    pipe.set_progress_bar_config(disable=True)
    (flux_adapter if family == "flux" else sd3_adapter)(pipe.transformer)
    return pipe


def flux_adapter(network):
    width, joint = network.inner_dim, network.config.joint_attention_dim
    projection = {"proj.weight": (4 * joint, 8), "proj.bias": (4 * joint,), "norm.weight": (joint,)}
    keys = {f"0.to_{name}_ip.weight": (width, joint) for name in "kv"}
    keys |= {f"0.to_{name}_ip.bias": (width,) for name in "kv"}
    torch.manual_seed(0)
    drawn = [
        {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}
        for shapes in ({**projection, "norm.bias": (joint,)}, keys)
    ]
    state = {"image_proj": drawn[0], "ip_adapter": drawn[1]}
    network._load_ip_adapter_weights(state, low_cpu_mem_usage=False)


def sd3_adapter(network):
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
    from diffusers.models.embeddings import IPAdapterTimeImageProjection

    width = network.inner_dim
    projection = IPAdapterTimeImageProjection(
        embed_dim=8, output_dim=width, hidden_dim=64, heads=1, num_queries=2, timestep_in_dim=320
    )
    network.image_proj = spread(projection, 1.0)
    network.set_attn_processor(
        {
            name: spread(SD3IPAdapterJointAttnProcessor2_0(width, width, 8, 64), 1.0)
            for name in network.attn_processors
        }
    )


@pytest.mark.parametrize("family", ["flux", "stable-diffusion-3"])
def test_image_embeddings_of_an_adapter_reach_the_network(family, monkeypatch):
    from torchvision.transforms.functional import to_pil_image

    pipe = adapted(family)
    picture = to_pil_image(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)))
    options = {}
    arguments = {**NEGATED, "ip_adapter_image": picture, "guidance_scale": 4.0}
    if family == "flux":
        options = {"true_guidance": True, "embedded_guidance": 2.0}
        arguments |= {"guidance_scale": 2.0, "true_cfg_scale": 4.0}
    condition = {**NEGATED, "ip_adapter_image": picture}
    mine = agree(pipe, Call(arguments, {"guidance": 4.0, "condition": condition}, options), monkeypatch)
    model = itscale.load(pipe, **options)
    other = {**condition, "ip_adapter_image": to_pil_image(torch.zeros(3, 16, 16))}
    plain = sampled(model, latents_of(model), STEPS, guidance=4.0, condition=other)
    assert not torch.allclose(mine, plain, atol=2e-4)


def test_several_controlnets_are_refused():
    pipe = controlled("stable-diffusion-3")
    nets = diffusers.SD3MultiControlNetModel([pipe.controlnet, pipe.controlnet])
    pipe.register_modules(controlnet=nets)
    with pytest.raises(ConfigError, match="has 2 ControlNets"):
        itscale.load(pipe, height=32, width=32).encode([PROMPT])
