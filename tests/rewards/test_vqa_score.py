"""VQAScore, against a plain call of the model with its processor, on a tiny random LLaVA."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import as_reward
from itscale.vision.preprocessing import as_pillow
from itscale.vision.visual_question import QuestionFolder
from tests.tiny_scorers import PROMPTS, images

pytestmark = pytest.mark.usefixtures("tiny_weights")

FACTS = {"prompts": PROMPTS}


@pytest.fixture(scope="module")
def logits(tiny_weights):
    """Logits after each question, one call each, pictures as the library takes them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny_weights / "vqa-score"
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    rows = []
    for picture, prompt in zip(as_pillow(images()), PROMPTS, strict=True):
        text = f'USER : <image> Does this figure show "{prompt}"? Please answer yes or no. ASSISTANT :'
        with torch.no_grad():
            rows.append(model(**processor(images=picture, text=text, return_tensors="pt")).logits[0, -1])
    tokenizer = processor.tokenizer
    return torch.stack(rows), tokenizer.convert_tokens_to_ids("Yes"), tokenizer.convert_tokens_to_ids("No")


def test_score_is_the_probability_of_yes(logits):
    rows, yes, no = logits
    among_two = rows[:, [yes, no]].softmax(1)[:, 0]
    assert among_two.std() > 0.03
    close = {"rtol": 1e-4, "atol": 1e-5}
    for options, expected in (
        ({}, among_two),
        ({"log": True}, among_two.log()),
        ({"over": "vocabulary"}, rows.softmax(1)[:, yes]),
        ({"over": "vocabulary", "log": True}, rows.log_softmax(1)[:, yes]),
        ({"answers": ["No", "Yes"]}, 1 - among_two),
    ):
        reward = as_reward({"name": "vqa-score", "preprocess": "pil", **options})
        torch.testing.assert_close(reward.score(images(), FACTS).values, expected, **close)


def test_samples_with_the_same_prompt_are_asked_about_together(monkeypatch):
    from itscale.vision import visual_question

    asked = []
    log_odds = visual_question.Questioner.log_odds

    def count(self, batch, question, *rest):
        asked.append((len(batch), question))
        return log_odds(self, batch, question, *rest)

    monkeypatch.setattr(visual_question.Questioner, "log_odds", count)
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0]]
    together = as_reward("vqa-score").score(images(), {"prompts": prompts}).values
    assert [n for n, _ in asked] == [3, 1]
    alone = as_reward("vqa-score").score(images(), {"prompts": prompts}, batch_size=1).values
    torch.testing.assert_close(together, alone)


def test_gradient_passes_the_models_own_preprocessing():
    batch = images(2, 40, 56).requires_grad_(True)
    reward = as_reward("vqa-score(log=True)")
    reward.raw(batch, {"prompts": PROMPTS[:2]}).sum().backward()
    assert (batch.grad.abs().amax(dim=1) > 0).float().mean() > 0.6  # all that the crop leaves


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"question": "is it so?"}, "give one {} where the prompt goes"),
        ({"question": "{} or {}?"}, "give one {} where"),
        ({"answers": "Yes"}, "answers='Yes'; give two"),
        ({"over": "answer"}, r"over is 'answer'.*Did you mean 'answers'"),
    ],
)
def test_bad_setting_is_said_at_the_start(options, said):
    with pytest.raises(ConfigError, match=said):
        as_reward({"name": "vqa-score", **options})


def test_answers_that_the_model_cannot_tell_apart_are_refused():
    with pytest.raises(ConfigError, match="does not begin the answer 'Perhaps'"):
        as_reward({"name": "vqa-score", "answers": ["Perhaps", "No"]}).score(images(), FACTS)
    with pytest.raises(ConfigError, match="begin with the same token"):
        as_reward({"name": "vqa-score", "answers": ["Yes", "Yes no"]}).score(images(), FACTS)


def test_model_without_a_chat_template_is_asked_plainly(tiny_weights):
    questioner = QuestionFolder(str(tiny_weights / "vqa-score")).load(torch.device("cpu"))
    questioner.processor.chat_template = None
    assert questioner._prompt("Is it?") == "<image>Is it?"
    both, whole = questioner.log_odds(images(2), "Does this show two cats ?", ("Yes", "No"), "tensor")
    assert (both < 0).all()
    assert (whole < both).all()


def test_patches_of_qwen_carry_the_gradient(tmp_path):
    """A model that cuts images into patches before the network sees them."""
    from tests.tiny_scorers import qwen_folder

    reward = as_reward({"name": "vqa-score", "weights": str(qwen_folder(tmp_path))})
    batch = images(2, 56, 56).requires_grad_(True)
    reward.raw(batch, {"prompts": "two cats"}).sum().backward()
    assert (batch.grad != 0).float().mean() > 0.9
    values = reward.score(images(2, 56, 56), {"prompts": "two cats"}).values
    torch.testing.assert_close(
        values[:1], reward.score(images(2, 56, 56)[:1], {"prompts": "two cats"}).values
    )
