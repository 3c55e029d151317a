"""ImageReward: names of the file, the network written out by hand, tokens, and the published package."""

from __future__ import annotations

import math
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from itscale.errors import ConfigError, MissingExtra
from itscale.scoring import as_reward
from itscale.vision.image_reward_native import NativeNetwork, Sizes, bert_tokens, split_state
from itscale.vision.preprocessing import Preprocessing
from tests.tiny_scorers import PROMPTS, image_reward_folder, images

FACTS = {"prompts": PROMPTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return image_reward_folder(tmp_path_factory.mktemp("image-reward"))


@pytest.fixture(scope="module")
def state(folder):
    return torch.load(folder / "ImageReward.pt")


def by_hand(state, pixels, ids, mask):
    """The published network in plain functions: pre-norm image blocks, post-norm text blocks, linear head."""
    see, read = "blip.visual_encoder.", "blip.text_encoder."

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name, eps):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def attend(q, k, v, allowed=None):
        q, k, v = (x.unflatten(-1, (-1, 64)).transpose(1, 2) for x in (q, k, v))
        logits = q @ k.transpose(2, 3) / math.sqrt(64)
        if allowed is not None:
            logits = logits.masked_fill(~allowed[:, None, None, :], -math.inf)
        return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

    x = F.conv2d(
        pixels, state[f"{see}patch_embed.proj.weight"], state[f"{see}patch_embed.proj.bias"], stride=16
    )
    x = torch.cat([state[f"{see}cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + state[f"{see}pos_embed"]
    for i in range(2):
        name = f"{see}blocks.{i}"
        q, k, v = linear(norm(x, f"{name}.norm1", 1e-6), f"{name}.attn.qkv").chunk(3, dim=-1)
        x = x + linear(attend(q, k, v), f"{name}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    seen = norm(x, f"{see}norm", 1e-6)
    y = state[f"{read}embeddings.word_embeddings.weight"][ids]
    y = y + state[f"{read}embeddings.position_embeddings.weight"][: ids.shape[1]]
    y = norm(y, f"{read}embeddings.LayerNorm", 1e-12)
    for i in range(2):
        name = f"{read}encoder.layer.{i}"
        for kind, context, allowed in (("attention", None, mask.bool()), ("crossattention", seen, None)):
            place = f"{name}.{kind}"
            context = y if context is None else context
            q = linear(y, f"{place}.self.query")
            k, v = (linear(context, f"{place}.self.{part}") for part in ("key", "value"))
            y = norm(
                linear(attend(q, k, v, allowed), f"{place}.output.dense") + y,
                f"{place}.output.LayerNorm",
                1e-12,
            )
        inner = F.gelu(linear(y, f"{name}.intermediate.dense"))
        y = norm(linear(inner, f"{name}.output.dense") + y, f"{name}.output.LayerNorm", 1e-12)
    y = y[:, 0]
    for layer in (0, 2, 4, 6, 7):
        y = linear(y, f"mlp.layers.{layer}")
    return (y[:, 0] - 0.16717362830052426) / 1.0333394966054072


def test_network_is_the_published_one(folder, state):
    ids, mask = bert_tokens(str(folder / "vocab.txt"), 35)(PROMPTS)
    pixels = Preprocessing((32, 32)).floats(images())
    expected = by_hand(state, pixels, ids, mask)
    assert expected.std() > 1
    values = as_reward({"name": "image-reward", "weights": str(folder)}).score(images(), FACTS).values
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=3e-5)


def test_every_name_of_the_file_finds_its_place(state):
    network = NativeNetwork(state, "file")
    vision, text, head = split_state(state, "file")
    assert len(network.vision.state_dict()) == len(vision)
    assert len(network.text.state_dict()) == len(text)
    assert len(head) == 10
    unused = len(state) - len(vision) - len(text) - len(head)
    assert unused == 5  # two projections of pre-training, and the positions


def test_names_at_full_size():
    """The published sizes, on the meta device, where no memory is needed."""
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    with torch.device("meta"):
        vision = BlipVisionModel(BlipVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
            image_size=224, patch_size=16,
        ))  # fmt: skip
        text = BlipTextModel(
            BlipTextConfig(encoder_hidden_size=1024, num_attention_heads=12), add_pooling_layer=False
        )
    parameters = sum(p.numel() for module in (vision, text) for p in module.parameters())
    head = sum(a * b + b for a, b in ((768, 1024), (1024, 128), (128, 64), (64, 16), (16, 1)))
    projections = 256 * (1024 + 1) + 256 * (768 + 1)
    assert round((parameters + head + projections) / 1e6, 1) == 446.7  # as published


def test_sizes_follow_from_the_tensors(state):
    sizes = Sizes.of(state)
    assert (sizes.width, sizes.depth, sizes.image, sizes.patch) == (128, 2, 32, 16)
    assert (sizes.text_width, sizes.text_depth, sizes.positions) == (64, 2, 40)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.pop("blip.visual_encoder.pos_embed"),
            "no ImageReward checkpoint: it lacks blip.visual_encoder",
        ),
        (lambda s: s.pop("mlp.layers.4.bias"), r"does not fit Sequential. 1 missing: 4\.bias"),
        (
            lambda s: s.pop("blip.text_encoder.encoder.layer.1.output.dense.bias"),
            "1 missing: encoder.layer.1.output",
        ),
        (
            lambda s: s.update({"blip.visual_encoder.blocks.0.x": torch.zeros(1)}),
            "1 unexpected: encoder.layers.0.x",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), "1 names that ImageReward has not: extra"),
    ],
)
def test_file_that_does_not_fit_is_refused(state, change, said):
    state = dict(state)
    change(state)
    with pytest.raises(ConfigError, match=said):
        NativeNetwork(state, "file")


def test_tokens_are_those_of_bert(folder, tmp_path):
    from transformers import BertTokenizer

    published = BertTokenizer(str(folder / "vocab.txt"))
    texts = [*PROMPTS, "Naïve Café, ünder THE apple!", "", "red " * 60, "a_b-c 漢字", "\tcats\n"]
    expected = published(texts, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    ids, mask = bert_tokens(str(folder / "vocab.txt"), 35)(texts)
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])


def test_vocabulary_is_found_beside_or_in_its_own_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ITSCALE_WEIGHTS", str(tmp_path))
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "mine.pt").hardlink_to(folder / "ImageReward.pt")
    with pytest.raises(ConfigError, match=r"needs vocab.txt .*bert-base-uncased.*vocabulary=PATH"):
        as_reward({"name": "image-reward", "weights": str(alone / "mine.pt")})
    (tmp_path / "bert-base-uncased").mkdir()
    (tmp_path / "bert-base-uncased" / "vocab.txt").hardlink_to(folder / "vocab.txt")
    apart = as_reward({"name": "image-reward", "weights": str(alone / "mine.pt")})
    beside = as_reward({"name": "image-reward", "weights": str(folder)})
    assert torch.equal(apart.score(images(), FACTS).values, beside.score(images(), FACTS).values)


def test_other_backend_is_refused_or_asked_for(folder):
    with pytest.raises(ConfigError, match=r"backend is 'pakage'.*Did you mean 'package'"):
        as_reward({"name": "image-reward", "weights": str(folder), "backend": "pakage"})


def test_package_that_is_absent_is_said(folder, monkeypatch):
    from itscale.vision import image_reward_package

    monkeypatch.setattr(image_reward_package, "PACKAGE", "no_such_package")
    with pytest.raises(MissingExtra, match="pip install --no-deps image-reward"):
        as_reward({"name": "image-reward", "weights": str(folder), "backend": "package"})


PARITY = """
import sys
import torch
from itscale.scoring import as_reward
from tests.tiny_scorers import PROMPTS, images

torch.set_num_threads(1)
facts = {"prompts": PROMPTS}
given = {"name": "image-reward", "weights": sys.argv[1]}
native, package = as_reward(given), as_reward({**given, "backend": "package"})
for shape in ((48, 48), (40, 72)):
    a, b = (reward.score(images(4, *shape), facts).values for reward in (native, package))
    print((a - b).abs().max().item(), a.std().item())
x, y = (images().requires_grad_(True) for _ in range(2))
native.raw(x, facts).sum().backward()
package.raw(y, facts).sum().backward()
print((x.grad - y.grad).abs().max().item(), x.grad.std().item())
import transformers.modeling_utils
assert not hasattr(transformers.modeling_utils, "find_pruneable_heads_and_indices")
assert "ImageReward" not in sys.modules and "clip" not in sys.modules
"""


@pytest.mark.slow
def test_package_scores_alike_in_an_environment_of_its_own(folder, tmp_path):
    """The published package beside current libraries: same weights, same pictures, same prompts."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "image-reward", "fairscale"], check=True
    )
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    Path(own, "libraries.pth").write_text(sysconfig.get_path("purelib"))
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [python, "-c", PARITY, str(folder)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        apart, spread = map(float, line.split())
        assert apart <= 1e-5
        assert spread > 1e-4
