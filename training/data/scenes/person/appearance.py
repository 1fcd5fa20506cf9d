"""Appearance of faces: the assets of each split, and random choices of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.scenes.painter import darker
from training.data.scenes.person.hair import HAIR_STYLES, TEST_HAIR, TEST_HATS, TRAIN_HAIR, TRAIN_HATS

AGES = ("child", "adult", "elder")

Color = tuple[float, float, float]


@dataclass(frozen=True)
class AssetPool:
    """The face assets of one split; colours are RGB 0..255."""

    skins: tuple[Color, ...]
    hair_styles: tuple[str, ...]
    hair_colors: tuple[Color, ...]
    iris_colors: tuple[Color, ...]
    glasses: tuple[str, ...]
    hats: tuple[str, ...]
    hat_colors: tuple[Color, ...]


_TRAIN = AssetPool(
    skins=(
        (252, 226, 205),
        (240, 200, 168),
        (222, 172, 132),
        (196, 142, 102),
        (158, 106, 74),
        (118, 76, 52),
        (84, 54, 40),
    ),
    hair_styles=tuple(TRAIN_HAIR),
    hair_colors=((28, 22, 20), (78, 48, 30), (214, 176, 104), (150, 70, 34), (60, 60, 96)),
    iris_colors=((62, 38, 22), (58, 104, 168), (70, 118, 62)),
    glasses=("round", "square"),
    hats=TRAIN_HATS,
    hat_colors=((178, 44, 50), (40, 62, 120), (60, 110, 70), (120, 120, 126)),
)
_TEST = AssetPool(
    skins=((246, 212, 188), (231, 187, 150), (210, 157, 116), (178, 124, 88), (138, 90, 62), (100, 64, 46)),
    hair_styles=tuple(TEST_HAIR),
    hair_colors=((48, 34, 30), (112, 72, 44), (236, 206, 150), (178, 96, 50), (120, 44, 80)),
    iris_colors=((92, 60, 34), (84, 132, 176), (98, 126, 92)),
    glasses=("hexagon", "cat_eye"),
    hats=TEST_HATS,
    hat_colors=((206, 150, 40), (96, 54, 120), (36, 116, 130), (226, 220, 208)),
)
ASSETS = {"train": _TRAIN, "val": _TRAIN, "test": _TEST}  # the test split's assets are held out
_GREYS = {"train": ((176, 174, 172), (224, 222, 218)), "test": ((150, 150, 154), (202, 200, 196))}


@dataclass(frozen=True)
class FaceAppearance:
    """The appearance of one face, constant over a clip; colours are RGB 0..255."""

    skin: Color
    hair_style: str  # a key of HAIR_STYLES
    hair_color: Color
    brow_color: Color
    brow_width_m: float
    iris_color: Color
    lip_color: Color
    beard: str = ""  # "" | stubble | full | goatee | moustache
    glasses: str = ""  # "" | round | square | hexagon | cat_eye
    glasses_color: Color = (30.0, 30.0, 34.0)
    hat: str = ""  # "" or one of the split's hats
    hat_color: Color = (90.0, 90.0, 90.0)
    age: str = "adult"
    freckles: bool = False
    blush: float = 0.0  # 0..1, redness of the cheeks; independent of the expression
    eye_size: float = 1.0
    nose_size: float = 1.0


def sample_appearance(rng: np.random.Generator, split: str, age: str = "adult") -> FaceAppearance:
    """A random appearance from the assets of a split. Raises ValueError for an unknown split or age."""
    if split not in ASSETS:
        raise ValueError(f"split {split!r} is none of {', '.join(ASSETS)}")
    if age not in AGES:
        raise ValueError(f"age {age!r} is none of {', '.join(AGES)}")
    pool = ASSETS[split]
    skin = _choose(rng, pool.skins)
    style = _choose(rng, [name for name in pool.hair_styles if age != "child" or name not in ("bald", "receding")])
    hair_color = _choose(rng, pool.hair_colors)
    if age == "elder" and rng.random() < 0.85:
        hair_color = _choose(rng, _GREYS["test" if split == "test" else "train"])
    beard = ""
    if age != "child" and not HAIR_STYLES[style].curtain and rng.random() < 0.3:
        beard = _choose(rng, ("stubble", "full", "goatee", "moustache"))
    lip_tint = _choose(rng, ((186.0, 62.0, 66.0), (172.0, 74.0, 72.0), (204.0, 78.0, 92.0)))
    mix = rng.uniform(0.55, 0.75)
    hat = _choose(rng, pool.hats) if rng.random() < 0.15 else ""
    return FaceAppearance(
        skin=skin,
        hair_style=style,
        hair_color=hair_color,
        brow_color=darker(hair_color, rng.uniform(0.55, 0.8)),
        brow_width_m=rng.uniform(0.004, 0.008),
        iris_color=_choose(rng, pool.iris_colors),
        lip_color=tuple(mix * a + (1 - mix) * b for a, b in zip(lip_tint, skin, strict=True)),
        beard=beard if hat != "headscarf" else "",
        glasses=_choose(rng, pool.glasses) if rng.random() < (0.08 if age == "child" else 0.2) else "",
        glasses_color=_choose(rng, ((30.0, 30.0, 34.0), (96.0, 40.0, 30.0), (52.0, 60.0, 96.0))),
        hat=hat,
        hat_color=_choose(rng, pool.hat_colors),
        age=age,
        freckles=bool(rng.random() < 0.12),
        blush=rng.uniform(0, 0.5),
        eye_size=rng.uniform(0.94, 1.06) * (1.1 if age == "child" else 1.0),
        nose_size=rng.uniform(0.85, 1.2) * (0.75 if age == "child" else 1.0),
    )


def _choose(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]
