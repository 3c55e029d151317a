"""Language models of three kinds, with tiny random weights: marks, prompts, guidance, times, shifts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import itscale
from itscale.errors import ConfigError
from itscale.models import masked_language_model

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "a", "mat"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    special = {f"{name}_token": WORDS[i] for name, i in named.items()}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@pytest.fixture(scope="module")
def plain_tokenizer(tokenizer):
    """One without marks around a text, as autoregressive vocabularies have."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        mask_token="[MASK]",
        eos_token="[SEP]",
        unk_token="[UNK]",
    )


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


class Filler(nn.Module):
    """A network that remembers what it was called with, and can be one place off."""

    def __init__(self, shift: int = 0):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(12, 12)
        self.off, self.seen = shift, []

    def forward(self, input_ids):
        self.seen.append(input_ids)
        moved = input_ids.roll(-self.off, 1)
        context = torch.nn.functional.one_hot(moved, 12).float().mean(dim=1, keepdim=True)
        return SimpleNamespace(logits=self.table(moved) + context)


class Timed(Filler):
    """MDLM's way of calling."""

    def forward(self, input_ids, timesteps):
        assert timesteps.shape == (len(input_ids),)
        assert timesteps.abs().max() == 0
        return super().forward(input_ids).logits


def test_bert_writes_words_between_its_marks(bert, tokenizer):
    model = masked_language_model(bert, tokenizer=tokenizer, length=5)
    result = itscale.sample(model, n=8, seed=0)
    assert result.modality == "text"
    assert all(word in WORDS[5:] for text in result.texts[0] for word in text.split())
    assert all(len(text.split()) == 5 for text in result.texts[0])
    x = torch.tensor([[4, 5, 4, 6, 4]])
    by_hand = bert(torch.tensor([[2, 4, 5, 4, 6, 4, 3]])).logits[:, 1:6]
    found = model.predict(x, torch.tensor(0.0), None)
    torch.testing.assert_close(found[..., 5:], by_hand[..., 5:])
    assert (found[..., :5] == -torch.inf).all()


def test_folders_are_opened_and_absent_ones_are_named(bert, tokenizer, tmp_path):
    bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = masked_language_model(str(tmp_path), length=3)
    assert model.tokens.mask == 4
    with pytest.raises(ConfigError, match="allow_download"):
        masked_language_model("nobody/nothing-of-this-name", length=3)


def test_prompts_stand_before_and_may_differ_in_length(plain_tokenizer):
    network = Filler()
    model = masked_language_model(network, tokenizer=plain_tokenizer, length=4, prompt_tokens=3)
    result = itscale.sample(model, n=2, seed=0, condition=["the cat", "a"], groups=2)
    assert len(result.texts) == 2
    widths = {seen.shape[1] for seen in network.seen}
    assert widths == {6, 5}
    assert all(
        torch.equal(s[:, :2], torch.tensor([[5, 6]]).expand(len(s), 2))
        for s in network.seen
        if s.shape[1] == 6
    )
    both = model.predict(torch.full((2, 4), 4), torch.tensor(0.0), model.encode(["the cat", "a"]))
    alone = model.predict(torch.full((1, 4), 4), torch.tensor(0.0), model.encode(["a"]))
    torch.testing.assert_close(both[1:], alone)


def test_guidance_hides_the_prompt_in_the_other_half(plain_tokenizer):
    network = Filler()
    model = masked_language_model(network, tokenizer=plain_tokenizer, length=4, prompt_tokens=2)
    guided = model.given("the cat", guidance=2.0)
    assert guided.rows_per_look == 2
    x, t = torch.full((1, 4), 4), torch.tensor(0.0)
    found = guided.predict(x, t, guided.encode([None]))
    given, bare = (model.predict(x, t, model.encode([c])) for c in ("the cat", None))
    usable = slice(5, 11)
    torch.testing.assert_close(found[..., usable], (2 * given - bare)[..., usable])


def test_a_time_is_given_where_it_is_asked_for(plain_tokenizer):
    model = masked_language_model(Timed(), tokenizer=plain_tokenizer, length=4)
    assert not model.takes_time
    assert len(itscale.sample(model, n=3, seed=0).texts[0]) == 3


def test_a_shift_moves_logits_back_to_their_place(plain_tokenizer):
    straight = masked_language_model(Filler(), tokenizer=plain_tokenizer, length=4, prompt_tokens=1)
    shifted = masked_language_model(
        Filler(shift=1), tokenizer=plain_tokenizer, length=4, prompt_tokens=1, shift=True
    )
    x, t = torch.tensor([[4, 7, 4, 8]]), torch.tensor(0.0)
    condition = straight.encode(["cat"])
    torch.testing.assert_close(shifted.predict(x, t, condition), straight.predict(x, t, condition))


def test_rewards_see_texts(bert, tokenizer):
    def cats(texts):
        return torch.tensor([float(text.split().count("cat")) for text in texts])

    model = masked_language_model(bert, tokenizer=tokenizer, length=5)
    options = {"reward": cats, "tilt": 3.0, "seed": 0, "method": itscale.methods.SMC(particles=64)}
    steered = itscale.sample(model, **options).rewards.mean()
    plain = itscale.sample(model, n=64, seed=0, reward=cats, method="unguided").rewards.mean()
    assert steered > plain + 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"length": 0}, "length"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"shift": True}, "shift"),
        ({"tokenizer": None}, "tokenizer"),
    ],
)
def test_what_does_not_fit_is_named(plain_tokenizer, options, named):
    with pytest.raises(ConfigError, match=named):
        masked_language_model(Filler(), **{"tokenizer": plain_tokenizer, "length": 4, **options})


def test_prompts_that_do_not_fit_are_named(plain_tokenizer):
    model = masked_language_model(Filler(), tokenizer=plain_tokenizer, length=4, prompt_tokens=1)
    with pytest.raises(ConfigError, match="3 tokens"):
        model.encode(["the cat sat"])
    with pytest.raises(ConfigError, match="no text"):
        model.encode([7])
