"""Counting by a detector, against the library's own pipeline, on tiny random weights."""

from __future__ import annotations

import pytest
import torch

from itscale.errors import ConfigError
from itscale.scoring import as_reward
from itscale.vision.detection import Detector
from itscale.vision.preprocessing import as_pillow
from tests.tiny_scorers import CLASSES, images, shake, word_tokenizer

pytestmark = pytest.mark.usefixtures("tiny_weights")


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.6])
def test_counts_are_those_of_the_librarys_pipeline(tiny_weights, threshold):
    from transformers import pipeline

    detect = pipeline("object-detection", model=str(tiny_weights / "count"))
    batch = images(6)
    found = [[box["label"] for box in detect(picture, threshold=threshold)] for picture in as_pillow(batch)]
    reward = as_reward({"name": "count", "targets": {"cat": 2, "dog": 4}, "threshold": threshold})
    scores = reward.score(batch)
    cats, dogs = (torch.tensor([float(labels.count(name)) for labels in found]) for name in ("cat", "dog"))
    assert dogs.max() > dogs.min()
    assert torch.equal(scores.parts["cat"], cats)
    assert torch.equal(scores.parts["dog"], dogs)
    assert torch.equal(scores.values, -((cats - 2).abs() + (dogs - 4).abs()))
    exponential = as_reward(
        {"name": "count", "targets": {"cat": 2, "dog": 4}, "threshold": threshold, "form": "exp"}
    )
    torch.testing.assert_close(exponential.score(batch).values, scores.values.exp())


def test_each_sample_may_want_other_objects():
    reward, batch = as_reward("count"), images(2)
    meta = [{"counts": {"cat": 2}}, {"counts": {"dog": 3, "bird": 0}}]
    scores = reward.score(batch, {"meta": meta})
    assert set(scores.parts) == {"cat", "dog", "bird"}
    cat, dog, bird = (scores.parts[name] for name in ("cat", "dog", "bird"))
    assert scores.values.tolist() == [-abs(cat[0].item() - 2), -abs(dog[1].item() - 3) - bird[1].item()]
    assert torch.equal(reward.score(batch, {"conditions": meta}).values, scores.values)


def test_overlapping_boxes_of_a_class_count_once_with_nms():
    class Model:
        config = type("C", (), {"id2label": CLASSES, "model_type": "yolos"})

        def __call__(self, **inputs):
            return None

    class Inputs(dict):
        def to(self, device):
            return self

    class Processor:
        def __call__(self, **options):
            return Inputs()

        def post_process_object_detection(self, outputs, threshold, target_sizes):
            boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 20, 30, 30]])
            return [
                {
                    "boxes": boxes,
                    "scores": torch.tensor([0.9, 0.8, 0.7, 0.6]),
                    "labels": torch.tensor([0, 0, 1, 0]),
                }
            ]

    detector = Detector(Model(), Processor(), dtype=torch.float32, device=torch.device("cpu"), is_open=False)
    one = torch.rand(1, 3, 32, 32)
    assert detector.counts(one, ["dog", "cat"], 0.5, None).tolist() == [[1, 3]]
    assert detector.counts(one, ["dog", "cat"], 0.5, 0.7).tolist() == [
        [1, 2]
    ]  # classes do not suppress each other
    assert detector.counts(one, ["bird"], 0.5, None).tolist() == [[0]]


@pytest.fixture(scope="module")
def grounding(tmp_path_factory):
    """A Grounding DINO in small."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    folder = tmp_path_factory.mktemp("grounding")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "cat", "red", "dog"]
    words += [f"[unused{i}]" for i in range(1100 - len(words))]  # the model knows the stops by BERT's numbers
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    small = {
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[2, 2, 2, 2], window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=1100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
        ),
        d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=12, max_text_len=16, **small,
    )  # fmt: skip
    shake(GroundingDinoForObjectDetection(config), 1.5).save_pretrained(folder)
    processor = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    GroundingDinoProcessor(processor, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def test_open_vocabulary_counts_by_the_tokens_of_each_text(grounding):
    from transformers import AutoProcessor, GroundingDinoForObjectDetection

    batch, threshold = images(4), 0.3
    reward = as_reward(
        {
            "name": "count",
            "weights": str(grounding),
            "targets": {"cat": 2, "Red dog": 1},
            "threshold": threshold,
        }
    )
    scores = reward.score(batch)
    model = GroundingDinoForObjectDetection.from_pretrained(grounding).eval()
    processor = AutoProcessor.from_pretrained(grounding)
    inputs = processor(images=as_pillow(batch), text=[["cat", "red dog"]] * 4, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**inputs).logits.sigmoid()  # [CLS] cat . red dog . [SEP]
    each = torch.stack([tokens[..., 1], tokens[..., [3, 4]].mean(-1)], dim=-1)
    best, kind = each.max(-1)
    for k, name in enumerate(("cat", "Red dog")):
        expected = ((best > threshold) & (kind == k)).sum(1).float()
        assert torch.equal(scores.parts[name], expected)
    assert scores.parts["cat"].sum() + scores.parts["Red dog"].sum() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": {"cta": 2}}, "has no class 'cta'.*Did you mean 'cat'.*It has cat, dog, bird"),
        ({"targets": {"cat": -1}}, "-1 of 'cat' are wanted"),
        ({"targets": {"cat": 1.5}}, "1.5 of 'cat' are wanted"),
        ({"threshold": 2}, "threshold is 2; give a number from 0 to 1"),
        ({"nms": -0.1}, "nms is -0.1"),
        ({"form": "error2"}, "form is 'error2'"),
    ],
)
def test_bad_setting_is_said_at_the_start(options, said):
    with pytest.raises(ConfigError, match=said):
        as_reward({"name": "count", **options})


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "has nothing to count for a sample; write count"),
        ({"meta": [{"counts": {"cat": 1}}, {}]}, "has nothing to count"),
        ({"meta": {"counts": {"cow": 1}}}, "has no class 'cow'"),
    ],
)
def test_sample_without_wishes_is_said(facts, said):
    with pytest.raises(ConfigError, match=said):
        as_reward("count").score(images(2), facts)


def test_texts_are_looked_for_by_owl(tmp_path):
    """A detector whose labels are positions among the texts."""
    from transformers import (
        AutoTokenizer,
        OwlViTConfig,
        OwlViTForObjectDetection,
        OwlViTImageProcessor,
        OwlViTProcessor,
    )

    word_tokenizer(tmp_path, ["cat", "red", "dog"], 16)
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"vocab_size": 7, "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2}
    config = OwlViTConfig(
        text_config={**layers, **special, "pad_token_id": 3},
        vision_config={**layers, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    model = shake(OwlViTForObjectDetection(config), 1.5, seed=8)
    with torch.no_grad():  # logits of several units about zero
        model.class_head.logit_shift.weight.zero_()
        model.class_head.logit_shift.bias.zero_()
        model.class_head.logit_scale.bias.fill_(10.0)
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    OwlViTProcessor(OwlViTImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(
        tmp_path
    )

    batch, wanted = images(4), {"cat": 2, "red dog": 1}
    processor = OwlViTProcessor.from_pretrained(tmp_path)
    inputs = processor(images=as_pillow(batch), text=[list(wanted)] * 4, return_tensors="pt")
    with torch.no_grad():
        best, kind = model(**inputs).logits.sigmoid().max(-1)
    threshold = round(best.median().item(), 3)  # about half of the boxes
    reward = as_reward({"name": "count", "weights": str(tmp_path), "targets": wanted, "threshold": threshold})
    scores = reward.score(batch)
    for k, name in enumerate(wanted):
        assert torch.equal(scores.parts[name], ((best > threshold) & (kind == k)).sum(1).float())
    assert 4 < sum(part.sum() for part in scores.parts.values()) < best.numel()
