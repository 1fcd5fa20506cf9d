"""The crops' encoder: the frame's weights at another size, with only the position table resampled."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch.nn.functional as F  # noqa: E402

from sf_ros.model.encoders import build_encoder  # noqa: E402
from sf_ros.model.encoders.resized import Resized, at_size  # noqa: E402
from tests.model.published import shaken  # noqa: E402
from tests.model.test_encoders import SMALL  # noqa: E402
from tests.tiny_models import CONFIG, fused_model  # noqa: E402

TABLES = {  # position tables in an encoder; rotary positions need none
    "tiny": 1,
    "clip-vit-l-14-336": 1,
    "dinov2-l-14": 1,
    "aimv2-h-14-448": 1,
    "internvit-300m-448": 1,
    "qwen2-vl-2b": 0,
    "clip+dinov2": 2,
}


def encoder_of(name: str) -> torch.nn.Module:
    encoder = shaken(build_encoder(SMALL[name]))
    for key, buffer in encoder.named_buffers():
        if "running" in key:
            buffer += 0.1
    return encoder.requires_grad_(False)


def on_2_x_2(table: torch.Tensor) -> torch.Tensor:
    """A table of 4 x 4 positions, with or without a class token, resampled to 2 x 2."""
    first, width = table.shape[-2] - 16, table.shape[-1]
    image = table[..., first:, :].reshape(1, 4, 4, width).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=(2, 2), mode="bicubic", align_corners=False)
    patches = image.permute(0, 2, 3, 1).reshape(*table.shape[:-2], 4, width)
    return torch.cat([table[..., :first, :], patches], dim=-2)


@pytest.mark.parametrize("name", TABLES)
@torch.no_grad()
def test_crops_are_encoded_as_by_an_encoder_of_their_size(name: str) -> None:
    encoder = encoder_of(name)
    size = SMALL[name].image_size // 2
    config = SMALL[name].resized(size)
    expected = build_encoder(config).eval()
    shapes, weights = expected.state_dict(), encoder.state_dict()
    tables = [key for key in weights if weights[key].shape != shapes[key].shape]
    assert len(tables) == TABLES[name]
    expected.load_state_dict({**weights, **{key: on_2_x_2(weights[key]) for key in tables}}, strict=True)
    images = torch.randn(3, 3, size, size)
    features = Resized(config)(encoder, images)
    assert features.shape == (3, 4, 16)
    assert torch.allclose(features, expected(images), atol=1e-5)
    assert torch.allclose(Resized(config).module(encoder)(images), expected(images), atol=1e-5)


@pytest.mark.parametrize("name", TABLES)
def test_all_weights_but_the_position_tables_are_shared(name: str) -> None:
    encoder = encoder_of(name)
    own = Resized(SMALL[name].resized(SMALL[name].image_size // 2)).module(encoder).state_dict()
    places = {key: weight.data_ptr() for key, weight in encoder.state_dict().items()}
    assert sum(weight.data_ptr() != places[key] for key, weight in own.items()) == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
@torch.no_grad()
def test_the_resized_encoder_follows_its_weights(name: str) -> None:
    encoder, size = encoder_of(name), SMALL[name].image_size // 2
    encode, images = at_size(encoder, SMALL[name].resized(size)), torch.randn(1, 3, size, size)
    before = encode(images)
    shaken(encoder, seed=1)
    assert (encode(images) - before).abs().max() > 1e-3


def test_at_its_own_size_it_is_the_encoder_itself() -> None:
    encoder = build_encoder(SMALL["tiny"])
    assert at_size(encoder, SMALL["tiny"]) is encoder
    assert fused_model().resized is None
    assert fused_model(dataclasses.replace(CONFIG, crop_size=CONFIG.encoder.image_size)).resized is None


@torch.no_grad()
def test_a_model_encodes_frames_and_crops_by_their_size() -> None:
    model = fused_model(dataclasses.replace(CONFIG, crop_size=24))
    frames, crops = torch.randn(2, 3, 48, 48), torch.randn(2, 3, 24, 24)
    assert torch.equal(model.encode(frames), model.encoder(frames))
    expected = Resized(model.config.crop_encoder).module(model.encoder)(crops)
    assert model.encode(crops).shape == (2, 4, 32) and torch.allclose(model.encode(crops), expected, atol=1e-6)
    assert not any("resized" in name for name in model.state_dict())
