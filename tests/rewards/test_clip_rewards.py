"""Rewards by CLIP-like networks against the libraries' own calls, on tiny random weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from itscale.errors import ConfigError, MissingExtra
from itscale.rewards import hps_v2
from itscale.scoring import as_reward
from itscale.vision.image_text import ImageText
from itscale.vision.places import MissingWeights
from itscale.vision.preprocessing import Preprocessing, as_pillow
from tests import tiny_scorers
from tests.tiny_scorers import PROMPTS, images

pytestmark = pytest.mark.usefixtures("tiny_weights")

FACTS = {"prompts": PROMPTS}
CLOSE = {"rtol": 0, "atol": 1e-5}
SHAPES = [(48, 48), (40, 72), (32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_clip_score_is_that_of_open_clip(tiny_weights, shape):
    import open_clip

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tiny_weights / 'clip-score'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_weights / 'clip-score'}")
    batch = images(4, *shape)
    with torch.no_grad():
        pictures = torch.stack([transform(p) for p in as_pillow(batch)])
        a = model.eval().encode_image(pictures, normalize=True)
        b = model.encode_text(tokenizer(PROMPTS), normalize=True)
    expected = (a * b).sum(1)
    assert expected.std() > 0.02
    ours = as_reward("clip-score(preprocess='pil')").score(batch, FACTS).values
    torch.testing.assert_close(ours, expected, **CLOSE)
    if shape == (32, 32):  # nothing is resized, so that only the rounding to 8 bits is left out
        differentiable = as_reward("clip-score").score((batch * 255).round() / 255, FACTS).values
        torch.testing.assert_close(differentiable, expected, **CLOSE)


def test_scales_of_the_clip_score():
    batch = images()
    cosine = as_reward("clip-score").score(batch, FACTS).values
    assert (cosine < 0).any()
    assert (cosine > 0).any()
    torch.testing.assert_close(as_reward("clip_score(scale=100)").score(batch, FACTS).values, 100 * cosine)
    published = as_reward("clip-score(scale=2.5)")
    torch.testing.assert_close(published.score(batch, FACTS).values, 2.5 * cosine.clamp(min=0))
    assert published.spec.range == (0, 2.5)
    assert published.spec.typical == (0.375, 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_pickscore_is_that_of_transformers(tiny_weights, shape):
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = tiny_weights / "pickscore"
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        PROMPTS, padding="max_length", max_length=77, return_tensors="pt"
    )
    batch = images(4, *shape)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(as_pillow(batch), return_tensors="pt")[
        "pixel_values"
    ]
    with torch.no_grad():
        expected = model(**tokens, pixel_values=pixels).logits_per_image.diagonal()
    assert expected.std() > 0.1
    ours = as_reward("pickscore(preprocess='pil')").score(batch, FACTS).values
    torch.testing.assert_close(ours, expected, **CLOSE)
    ours = as_reward("pickscore(preprocess='pil', normalise='26')").score(batch, FACTS).values
    torch.testing.assert_close(ours, expected / 26, **CLOSE)


def test_clip_folder_of_transformers_gives_the_cosine(tiny_weights):
    folder = tiny_weights / "pickscore"
    cosine = as_reward({"name": "clip-score", "model": str(folder)}).score(images(), FACTS).values
    score = as_reward("pickscore").score(images(), FACTS).values
    scale = torch.exp(torch.tensor(2.6592))
    torch.testing.assert_close(score, scale * cosine, rtol=1e-4, atol=1e-5)


def test_hps_pads_where_clip_would_cut(tiny_weights):
    import open_clip

    model = open_clip.CLIP(**tiny_scorers.OPEN_CLIP)
    model.load_state_dict(torch.load(tiny_weights / "hps-v2" / "HPS_v2.1_compressed.pt")["state_dict"])
    wide = images(4, 32, 96)
    pixels = Preprocessing((32, 32), fit="pad", resizes="floats").floats(wide)
    with torch.no_grad():
        a = model.eval().encode_image(pixels, normalize=True)
        b = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(PROMPTS), normalize=True)
    torch.testing.assert_close(as_reward("hps-v2").score(wide, FACTS).values, (a * b).sum(1), **CLOSE)
    cut = as_reward("hps-v2").score(wide[..., 32:64], FACTS).values
    assert (cut - (a * b).sum(1)).abs().max() > 0.02


def test_versions_of_hps_are_different_files(tiny_weights):
    with pytest.raises(MissingWeights, match="HPS_v2_compressed"):
        as_reward("hps-v2(version='2.0')")
    with pytest.raises(ConfigError, match=r"version is '2\.2'"):
        as_reward("hps-v2(version='2.2')")


def test_aesthetic_is_linear_layers_on_the_unit_embedding(tiny_weights):
    from transformers import CLIPModel

    batch = images(4, 32, 32)
    model = CLIPModel.from_pretrained(tiny_weights / "clip-vit-large-patch14").eval()
    with torch.no_grad():
        out = model.get_image_features(Preprocessing((32, 32)).floats(batch))
    x = F.normalize(getattr(out, "pooler_output", out), dim=-1)
    state = torch.load(next((tiny_weights / "aesthetic").iterdir()))
    for layer in (0, 2, 4, 6, 7):
        x = F.linear(x, state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"])
    torch.testing.assert_close(as_reward("aesthetic").score(batch).values, x[:, 0], rtol=1e-4, atol=1e-4)


def test_aesthetic_takes_a_folder_of_open_clip(tiny_weights):
    reward = as_reward({"name": "aesthetic", "clip": str(tiny_weights / "clip-score")})
    assert reward.score(images()).valid.all()


@pytest.mark.parametrize("name", ["clip-score", "pickscore", "hps-v2"])
class TestPrompts:
    def test_each_image_is_compared_with_its_own_prompt(self, name):
        batch, reward = images(), as_reward(name)
        values = reward.score(batch, FACTS).values
        turned = reward.score(batch, {"prompts": PROMPTS[1:] + PROMPTS[:1]}).values
        assert (values - turned).abs().min() > 1e-4
        one = as_reward({"name": name, "prompt": PROMPTS[2]}).score(batch).values
        torch.testing.assert_close(one[2], values[2], **CLOSE)

    def test_texts_as_conditions_are_prompts(self, name):
        batch, reward = images(), as_reward(name)
        values = reward.score(batch, FACTS).values
        assert torch.equal(reward.score(batch, {"conditions": PROMPTS}).values, values)
        held = [{"prompt": text, "negative": "blurry"} for text in PROMPTS]
        assert torch.equal(reward.score(batch, {"conditions": held}).values, values)

    def test_sample_without_a_prompt_is_refused(self, name):
        for facts in ({}, {"prompts": [*PROMPTS[:3], None]}, {"conditions": [1, 2, 3, 4]}):
            with pytest.raises(ConfigError, match=r"compares images with a text.*\(prompt='...'\)"):
                as_reward(name).score(images(), facts)
        assert as_reward(name).spec.needs_prompt
        assert not as_reward({"name": name, "prompt": "x"}).spec.needs_prompt


@pytest.mark.parametrize("name", ["clip-score", "pickscore", "hps-v2", "aesthetic"])
def test_eight_bit_form_has_no_gradient_and_scores_alike(name):
    batch = images()
    exact, smooth = as_reward({"name": name, "preprocess": "pil"}), as_reward(name)
    assert smooth.gradient_ready
    with pytest.raises(ConfigError, match="has no gradient"):
        exact.raw(batch, FACTS)
    a, b = exact.score(batch, FACTS).values, smooth.score(batch, FACTS).values
    assert not torch.equal(a, b)
    assert (a - b).abs().max() < 0.35 * (b.max() - b.min())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_scores_are_float32_and_close(dtype):
    full = as_reward("clip-score").score(images(), FACTS).values
    half = as_reward({"name": "clip-score", "dtype": dtype}).score(images(), FACTS).values
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.03


def test_texts_are_encoded_once_each():
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return torch.tensor([[float(len(text)), 1.0] for text in texts])

    pair = ImageText(lambda x: x, encode, Preprocessing((1, 1)), logit_scale=1.0, dtype=torch.float32)
    first = pair.embed_texts(["a", "bb", "a"])
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3))
    assert torch.equal(first[0], first[2])
    assert torch.equal(pair.embed_texts(["bb", "ccc"])[0], first[1])
    assert asked == [["a", "bb"], ["ccc"]]


def test_rewards_of_one_encoder_share_it(tiny_weights, monkeypatch):
    from itscale.vision import clip_folder
    from itscale.vision.image_text import resident

    resident.cache_clear()
    loads = []
    load = clip_folder.ClipFolder.load
    monkeypatch.setattr(clip_folder.ClipFolder, "load", lambda s, d: loads.append(s) or load(s, d))
    folder = str(tiny_weights / "pickscore")
    as_reward({"name": "aesthetic", "clip": folder}).score(images())
    as_reward({"name": "clip-score", "model": folder}).score(images(), FACTS)
    as_reward({"name": "pickscore", "weights": folder}).score(images(), FACTS)
    assert len(loads) == 1


@pytest.mark.parametrize("name", ["clip-score", "pickscore", "hps-v2", "aesthetic"])
def test_weights_that_are_not_there_are_an_error_at_the_start(name, tmp_path, monkeypatch):
    from itscale.vision import places

    monkeypatch.setenv(places.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(places, "hub_folder", lambda *a: None)
    with pytest.raises(MissingWeights) as caught:
        as_reward(name)
    assert str(tmp_path) in str(caught.value)


def test_file_of_another_network_is_refused(tiny_weights, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "HPS_v2.1_compressed.pt")
    with pytest.raises(ConfigError, match=r"does not fit CLIP. .* missing: .*; 1 unexpected: a"):
        as_reward({"name": "hps-v2", "weights": str(tmp_path)}).score(images(), FACTS)


def test_reward_travels_without_its_network(tiny_weights):
    import pickle

    reward = as_reward("clip-score(scale=100)")
    reward.score(images(), FACTS)
    data = pickle.dumps(reward)
    assert len(data) < 5000
    torch.testing.assert_close(
        pickle.loads(data).score(images(), FACTS).values, reward.score(images(), FACTS).values
    )


def test_architecture_of_hps_is_that_of_its_library():
    import open_clip

    assert hps_v2.ARCHITECTURE in open_clip.list_models()


@pytest.mark.parametrize(
    ("name", "module"), [("clip-score", "open_clip"), ("hps-v2", "open_clip"), ("pickscore", "transformers")]
)
def test_absent_library_is_said_at_the_start(name, module, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == module else find(n, *a))
    with pytest.raises(
        MissingExtra, match=rf"reward '{name}' needs '{module}'.*pip install 'itscale\[images\]'"
    ):
        as_reward(name)
