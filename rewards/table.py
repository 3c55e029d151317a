"""The table of built-in rewards: name -> class and facts. Readable without torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from itscale.vision.places import Weights


class BuiltIn(NamedTuple):
    """One built-in reward.

    Attributes:
        target: ``module:class``; the class takes the reward's arguments.
        facts: fields of ``itscale.scoring.RewardSpec``, without the name.
        weights: the files that it needs and that no package brings; by the arguments some of them may do.
    """

    target: str
    facts: dict[str, Any]
    weights: tuple[Weights, ...] = ()


def _image(target: str, doc: str, low: float | None, high: float | None, **facts: Any) -> BuiltIn:
    """A differentiable reward of our own on images, with scores between ``low`` and ``high``."""
    common = {"modality": "image", "differentiable": True, "licence": "Apache-2.0"}
    return BuiltIn(f"itscale.rewards.{target}", {**common, "doc": doc, "range": (low, high), **facts})


def _learned(target: str, doc: str, weights: tuple[Weights, ...], **facts: Any) -> BuiltIn:
    """A differentiable reward by a published network; weights are never downloaded unasked."""
    licence = ", ".join(dict.fromkeys(["code Apache-2.0", *(f"weights {w.licence}" for w in weights)]))
    common = {
        "modality": "image",
        "differentiable": True,
        "needs_rgb": True,
        "extra": "images",
        "batch_size": 16,
    }
    facts = {**common, "licence": licence, "doc": doc, **facts}
    return BuiltIn(f"itscale.rewards.{target}", facts, weights)


def _molecule(target: str, doc: str, low: float | None, high: float | None, **facts: Any) -> BuiltIn:
    """A reward on molecules, by RDKit."""
    common = {"modality": "molecule", "extra": "molecules", "licence": "Apache-2.0, RDKit BSD-3-Clause"}
    return BuiltIn(f"itscale.rewards.{target}", {**common, "doc": doc, "range": (low, high), **facts})


# What save_pretrained of transformers writes for a CLIP model, and open_clip's push_to_hf_hub.
_CLIP_FOLDER = (
    "config.json",
    "model.safetensors|model.safetensors.index.json|pytorch_model.bin",
    "preprocessor_config.json|processor_config.json",
    "tokenizer.json|vocab.json",
)
_OPEN_CLIP_FOLDER = (
    "open_clip_config.json",
    "open_clip_model.safetensors|open_clip_pytorch_model.safetensors|open_clip_pytorch_model.bin",
)
_HUMAN = {"licence": "Apache-2.0", "hub": "xswu/HPSv2", "size": "3.9 GB", "elsewhere": ("~/.cache/hpsv2",)}
_AESTHETIC = (
    Weights(
        "aesthetic", ("sac+logos+ava1-l14-linearMSE.pth",), "Apache-2.0", size="4 MB",
        hub="camenduru/improved-aesthetic-predictor",
    ),
    Weights(
        "aesthetic", _CLIP_FOLDER, "MIT", size="1.7 GB", hub="openai/clip-vit-large-patch14",
        argument="clip", subfolder="clip-vit-large-patch14",
    ),
)  # fmt: skip
_CLIP_SCORE = (Weights("clip-score", _OPEN_CLIP_FOLDER, "by checkpoint", argument="model"),)
_HPS = (
    Weights("hps-v2", ("HPS_v2.1_compressed.pt",), **_HUMAN),
    Weights("hps-v2", ("HPS_v2_compressed.pt",), **_HUMAN),
)
_IMAGE_REWARD = (
    Weights(
        "image-reward", ("ImageReward.pt",), "Apache-2.0", hub="THUDM/ImageReward", size="1.8 GB",
        elsewhere=("~/.cache/ImageReward",),
    ),
    Weights(
        "image-reward", ("vocab.txt",), "Apache-2.0", hub="bert-base-uncased", size="0.2 MB",
        argument="vocabulary", subfolder="bert-base-uncased",
    ),
)  # fmt: skip
_PICKSCORE = (Weights("pickscore", _CLIP_FOLDER, "MIT", hub="yuvalkirstain/PickScore_v1", size="3.9 GB"),)

_MODEL_FOLDER = (
    "config.json",
    "model.safetensors|model.safetensors.index.json|pytorch_model.bin",
    "preprocessor_config.json|processor_config.json",
)
_COUNT = (Weights("count", _MODEL_FOLDER, "by model"),)
_VQA = (Weights("vqa-score", _MODEL_FOLDER, "by model"),)

# Ranges and typical scores of learned rewards are those of the papers on images of Stable Diffusion.
_PROMPTED = {"needs_prompt": True}
_COSINE = {**_PROMPTED, "range": (-1.0, 1.0)}
_LOOKS = {"range": (None, None), "typical": (4.5, 7.0), "scale_hint": 0.5}
_RANKED = {**_PROMPTED, "range": (None, None), "typical": (-2.0, 2.0), "scale_hint": 1.0}
_PICKED = {**_PROMPTED, "range": (-100.0, 100.0), "typical": (17.0, 24.0), "scale_hint": 1.3}

# A reward that is computed elsewhere is as its author says; its own facts replace these.
_ELSEWHERE = {"modality": "image", "needs_rgb": True, "range": (None, None), "licence": "its own"}

# Typical scores are the 5 and 95 % quantiles over 3,000 handwritten digits (MNIST), hints their standard
# deviation; for the digit rewards they run from a clear other digit to a clear hit.
_DIGIT = {"typical": (-20.0, 0.0), "example_shape": (1, 28, 28)}
_SCENE = {"differentiable": False, "needs_rgb": True, "example_shape": (3, 32, 32), "batch_size": 128}
_JPEG = {"differentiable": False, "needs_rgb": True}
_LIGHT = {"typical": (0.05, 0.23), "scale_hint": 0.056}
_EDGES = {"typical": (0.03, 0.09), "scale_hint": 0.02}
_SMOOTH = {"typical": (-0.09, -0.03), "scale_hint": 0.02}
_MIRROR = {"typical": (-0.24, -0.06), "scale_hint": 0.056}
_SPREAD = {"typical": (0.2, 0.39), "scale_hint": 0.06}

BUILT_IN: dict[str, BuiltIn] = {
    "aesthetic": _learned(
        "aesthetic:Aesthetic", "how much people like the look, 1 to 10", _AESTHETIC, **_LOOKS
    ),
    "brightness": _image("brightness:Brightness", "mean luminance", 0, 1, **_LIGHT),
    "clip-score": _learned(
        "clip_score:ClipScore",
        "cosine of image and prompt",
        _CLIP_SCORE,
        **_COSINE,
        typical=(0.15, 0.4),
        scale_hint=0.04,
    ),
    "contrast": _image("contrast:Contrast", "standard deviation of the luminance", 0, 0.5, **_SPREAD),
    "count": _learned(
        "count:Count",
        "minus the error in the numbers of objects",
        _COUNT,
        differentiable=False,
        range=(None, 0),
        typical=(-4.0, 0.0),
        scale_hint=1.0,
    ),
    "digit": _image("digit:Digit", "log-probability of a digit, steering classifier", None, 0, **_DIGIT),
    "digit-judge": _image("digit:DigitJudge", "the same, held-out classifier", None, 0, **_DIGIT),
    "dna-binding": BuiltIn(
        "itscale.rewards.dna_binding:DnaBinding",
        {
            "modality": "sequence",
            "doc": "binding of a transcription factor, measured for every 8-mer",
            "range": (None, None),
            "typical": (-1.6, 1.7),
            "scale_hint": 1.0,
            "licence": "Apache-2.0",
        },
    ),
    "docking": _molecule("docking:Docking", "minus the energy of a docking program", None, None),
    "hps-v2": _learned(
        "hps_v2:HPSv2",
        "human preference score, version 2",
        _HPS,
        **_COSINE,
        typical=(0.15, 0.35),
        scale_hint=0.03,
        version="2.1",
    ),
    "hydrogen-acceptors": _molecule(
        "descriptor:HydrogenAcceptors", "number, or the wish for a window", None, None
    ),
    "hydrogen-donors": _molecule("descriptor:HydrogenDonors", "number, or the wish for a window", None, None),
    "image-reward": _learned(
        "image_reward:ImageReward", "how well an image answers its prompt", _IMAGE_REWARD, **_RANKED
    ),
    "http": BuiltIn("itscale.rewards.http:Http", {"doc": "the scores of a server", **_ELSEWHERE}),
    "ink": _image("ink:Ink", "amount of bright stroke; minus it for thin ones", 0, 1, **_LIGHT),
    "isolated": BuiltIn(
        "itscale.rewards.isolated:Isolated", {"doc": "a function in another environment", **_ELSEWHERE}
    ),
    "jpeg-compressibility": _image("jpeg:JpegCompressibility", "minus the size as JPEG", None, 0, **_JPEG),
    "jpeg-incompressibility": _image("jpeg:JpegIncompressibility", "the size as JPEG", 0, None, **_JPEG),
    "lennard-jones": BuiltIn(
        "itscale.rewards.lennard_jones:LennardJones",
        {
            "modality": "vector",
            "differentiable": True,
            "doc": "minus the energy of a Lennard-Jones cluster over its temperature",
            "range": (None, None),
            "typical": (-20.0, 60.0),
            "scale_hint": 5.0,
            "example_shape": (13, 3),
            "licence": "Apache-2.0",
        },
    ),
    "logp": _molecule("descriptor:LogP", "octanol-water partition, or the wish for a window", None, None),
    "molecular-weight": _molecule(
        "descriptor:MolecularWeight", "daltons, or the wish for a window", None, None
    ),
    "no-alerts": _molecule("alerts:NoAlerts", "1 without PAINS and Brenk alerts", 0, 1),
    "novelty": _molecule("similarity:Novelty", "difference from reference molecules", 0, 1),
    "penalized-logp": _molecule("drug_likeness:PenalizedLogP", "logP less SA and large rings", None, None),
    "pickscore": _learned("pickscore:PickScore", "which image people would pick", _PICKSCORE, **_PICKED),
    "qed": _molecule("drug_likeness:QED", "drug-likeness", 0, 1),
    "rings": _molecule("descriptor:Rings", "number, or the wish for a window", None, None),
    "rotatable-bonds": _molecule("descriptor:RotatableBonds", "number, or the wish for a window", None, None),
    "scene-count": _image("scene:SceneCount", "minus the error in the counts of a scene", None, 0, **_SCENE),
    "scene-judge": _image(
        "scene:SceneJudge", "1 if a scene is as asked for, held-out network", 0, 1, **_SCENE
    ),
    "scene-match": _image("scene:SceneMatch", "1 if a scene is exactly as asked for", 0, 1, **_SCENE),
    "scene-relation": _image("scene:SceneRelation", "how far left is from being left", -1, 0, **_SCENE),
    "similarity": _molecule("similarity:Similarity", "Tanimoto similarity to reference molecules", 0, 1),
    "smoothness": _image("total_variation:Smoothness", "minus the total variation", -1, 0, **_SMOOTH),
    "substructure": _molecule("alerts:Substructure", "1 with a SMARTS pattern in it", 0, 1),
    "symmetry": _image("symmetry:Symmetry", "minus the difference to the mirror image", -1, 0, **_MIRROR),
    "synthesizability": _molecule("drug_likeness:Synthesizability", "ease of synthesis, (10 - SA) / 9", 0, 1),
    "total-variation": _image("total_variation:TotalVariation", "difference of neighbours", 0, 1, **_EDGES),
    "tpsa": _molecule("descriptor:TPSA", "polar surface, or the wish for a window", None, None),
    "vlm-judge": BuiltIn(
        "itscale.rewards.vlm_judge:VLMJudge",
        {
            **_ELSEWHERE,
            "doc": "a vision-language model's score by a rubric",
            "deterministic": False,
            "needs_prompt": True,
            "range": (0.0, 10.0),
            "typical": (3.0, 9.0),
            "scale_hint": 1.5,
        },
    ),
    "vqa-score": _learned(
        "vqa_score:VQAScore",
        "probability that a model sees the prompt",
        _VQA,
        **_PROMPTED,
        range=(0, 1),
        typical=(0.0, 1.0),
        scale_hint=0.3,
        batch_size=8,
    ),
}
