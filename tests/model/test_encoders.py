"""Encoders give one feature per patch, in raster order."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sf_ros.core.config import MODELS, EncoderConfig, NotAvailable  # noqa: E402
from sf_ros.model.encoders import ClipEncoder, TinyEncoder, build_encoder  # noqa: E402

SMALL = {
    "tiny": EncoderConfig(name="tiny", image_size=48, patch_size=12, dim=16, depth=2, heads=2),
    "clip-vit-l-14-336": EncoderConfig(
        name="clip-vit-l-14-336", image_size=56, patch_size=14, dim=16, depth=2, heads=2
    ),
}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_picture_becomes_one_feature_per_patch(name: str, batch: int) -> None:
    encoder = build_encoder(SMALL[name]).eval()
    size = SMALL[name].image_size
    assert encoder(torch.randn(batch, 3, size, size)).shape == (batch, 16, 16)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_picture_is_encoded_alike_alone_and_among_others(name: str) -> None:
    encoder = build_encoder(SMALL[name]).eval()
    pictures = torch.randn(3, 3, SMALL[name].image_size, SMALL[name].image_size)
    assert torch.allclose(encoder(pictures)[1:2], encoder(pictures[1:2]), atol=1e-5)


@torch.no_grad()
def test_the_tiny_stem_keeps_patches_in_raster_order() -> None:
    encoder = TinyEncoder(dataclasses.replace(SMALL["tiny"], depth=0)).eval()
    encoder.norm = torch.nn.Identity()
    plain, changed = torch.zeros(1, 3, 48, 48), torch.zeros(1, 3, 48, 48)
    changed[..., 12 + 5 : 12 + 7, 36 + 5 : 36 + 7] = 9.0  # the middle of the patch in row 1, column 3
    difference = (encoder(changed) - encoder(plain)).abs().sum(-1)[0]
    assert difference.argmax() == 1 * 4 + 3


@torch.no_grad()
def test_clip_leaves_the_class_token_and_the_last_norm_out() -> None:
    encoder = ClipEncoder(SMALL["clip-vit-l-14-336"]).eval()
    pictures = torch.randn(2, 3, 56, 56)
    found = encoder(pictures)
    layers = encoder.tower(pixel_values=pictures, output_hidden_states=True).hidden_states
    assert layers[-1].shape == (2, 17, 16)
    assert torch.equal(found, layers[-1][:, 1:])
    torch.nn.init.constant_(encoder.tower.post_layernorm.weight, 0.0)
    assert torch.equal(encoder(pictures), found)


def test_clip_uses_the_activation_its_weights_were_trained_with() -> None:
    assert ClipEncoder(SMALL["clip-vit-l-14-336"]).tower.config.hidden_act == "quick_gelu"


def test_the_papers_encoder_has_the_size_of_vit_l_14_336() -> None:
    with torch.device("meta"):
        encoder = build_encoder(MODELS["paper"].encoder)
    patches, positions, norms = 3 * 14 * 14 * 1024, (1 + 576) * 1024 + 1024, 2 * 2 * 1024
    layer = 4 * (1024 * 1024 + 1024) + 2 * 4 * 1024 * 1024 + 4 * 1024 + 1024 + 2 * 2 * 1024
    assert parameters(encoder) == patches + positions + norms + 24 * layer == 303_507_456


def test_the_tiny_encoder_has_a_stem_for_patches_of_12_only() -> None:
    with pytest.raises(ValueError, match="divides by 12; patch_size is 16"):
        build_encoder(EncoderConfig(image_size=144, patch_size=16))


def test_an_encoder_of_a_later_version_is_not_available() -> None:
    with pytest.raises(
        NotAvailable, match=r"'dinov2' is not available in this version; known: tiny, clip-vit-l-14-336"
    ):
        build_encoder(EncoderConfig(name="dinov2"))
