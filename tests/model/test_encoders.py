"""Encoders give one feature per patch, in raster order."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sf_ros.core.config import MODELS, EncoderConfig  # noqa: E402
from sf_ros.model.encoders import ENCODERS, WEIGHTS, ClipEncoder, TinyEncoder, build_encoder  # noqa: E402
from tests.model.published import DEPTH, GRID, PATCH, SIZE, WIDTH, shaken, small  # noqa: E402

TOWERS = [name for name, config in ENCODERS.items() if name != "tiny" and not config.parts]
SMALL = {
    "tiny": EncoderConfig(name="tiny", image_size=48, patch_size=12, dim=16, depth=2, heads=2),
    "clip-vit-l-14-336": EncoderConfig(
        name="clip-vit-l-14-336", image_size=56, patch_size=14, dim=16, depth=2, heads=2
    ),
    **{name: small(name, dim=16, depth=2) for name in TOWERS if name != "clip-vit-l-14-336"},
    "clip+dinov2": dataclasses.replace(
        ENCODERS["clip+dinov2"],
        image_size=SIZE,
        dim=16,
        parts=(small("clip-vit-l-14-336", dim=8, depth=2), small("dinov2-l-14", dim=8, depth=2)),
    ),
}
# Weights of the whole tower, without unused tensors (mask tokens, mergers, projections).
REAL = {
    "clip-vit-l-14-336": 303_507_456,  # by hand below; OpenAI's ViT-L/14-336
    "molmoe-1b": 303_507_456 - 12_596_224 - 2 * 1024,  # CLIP's without its last block and post-norm
    "dinov2-l-14": 304_368_640 - 1024,  # the hub's count for facebook/dinov2-large, less its mask token
    "aimv2-h-14-448": 682_031_616,  # the hub's count for apple/aimv2-huge-patch14-448
    "sailvit-h-14-448": 682_031_616,  # made from it ("600M")
    "sail-vl-1d5-2b": 682_031_616,
    # patches, positions, class token, and per layer: norms, attention with biases, MLP, two layer scales
    "internvit-300m-448": 603_136 + 1025 * 1024 + 1024 + 24 * (4096 + 4_198_400 + 8_393_728 + 2048),
    "internvl3-2b": 603_136 + 1025 * 1024 + 1024 + 24 * (4096 + 4_198_400 + 8_393_728 + 2048),
    # patches, positions, class token, two norms, and per layer: norms, attention, MLP
    "dfn-vit-h-14-378": 752_640 + 730 * 1280 + 1280 + 5120 + 32 * (5120 + 6_558_720 + 13_113_600),
    # patches over two frames and the same layers; no positions, no class token
    "qwen2-vl-2b": 2 * 752_640 + 32 * (5120 + 6_558_720 + 13_113_600),
    "clip+dinov2": 303_507_456 + 304_368_640 - 1024 - (1370 - 577) * 1024,  # DINOv2's table resampled to 24 x 24
}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch", [1, 3])
def test_an_image_becomes_one_feature_per_patch(name: str, batch: int) -> None:
    encoder = build_encoder(SMALL[name]).eval()
    size = SMALL[name].image_size
    assert encoder(torch.randn(batch, 3, size, size)).shape == (batch, 16, 16)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_an_image_is_encoded_alike_alone_and_in_a_batch(name: str) -> None:
    encoder = build_encoder(SMALL[name]).eval()
    images = torch.randn(3, 3, SMALL[name].image_size, SMALL[name].image_size)
    assert torch.allclose(encoder(images)[1:2], encoder(images[1:2]), atol=1e-5)


@torch.no_grad()
def test_the_tiny_stem_keeps_patches_in_raster_order() -> None:
    encoder = TinyEncoder(SMALL["tiny"]).eval()
    encoder.blocks, encoder.norm = torch.nn.ModuleList(), torch.nn.Identity()
    plain, changed = torch.zeros(1, 3, 48, 48), torch.zeros(1, 3, 48, 48)
    changed[..., 12 + 5 : 12 + 7, 36 + 5 : 36 + 7] = 9.0  # the middle of the patch in row 1, column 3
    difference = (encoder(changed) - encoder(plain)).abs().sum(-1)[0]
    assert difference.argmax() == 1 * 4 + 3


@torch.no_grad()
def test_clip_leaves_out_class_token_and_final_norm() -> None:
    encoder = ClipEncoder(SMALL["clip-vit-l-14-336"]).eval()
    images = torch.randn(2, 3, 56, 56)
    features = encoder(images)
    layers = encoder.tower(pixel_values=images, output_hidden_states=True).hidden_states
    assert layers[-1].shape == (2, 17, 16)
    assert torch.equal(features, layers[-1][:, 1:])
    torch.nn.init.constant_(encoder.tower.post_layernorm.weight, 0.0)
    assert torch.equal(encoder(images), features)


def test_clip_uses_the_activation_of_its_weights() -> None:
    assert ClipEncoder(SMALL["clip-vit-l-14-336"]).tower.config.hidden_act == "quick_gelu"


def test_the_papers_encoder_has_the_size_of_vit_l_14_336() -> None:
    with torch.device("meta"):
        encoder = build_encoder(MODELS["paper"].encoder)
    patches, positions, norms = 3 * 14 * 14 * 1024, (1 + 576) * 1024 + 1024, 2 * 2 * 1024
    layer = 4 * (1024 * 1024 + 1024) + 2 * 4 * 1024 * 1024 + 4 * 1024 + 1024 + 2 * 2 * 1024
    assert parameters(encoder) == patches + positions + norms + 24 * layer == 303_507_456


def test_the_tiny_encoder_needs_patches_of_12() -> None:
    with pytest.raises(ValueError, match="divides by 12; patch_size is 16"):
        build_encoder(EncoderConfig(image_size=144, patch_size=16))


def test_an_unknown_encoder_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"Unknown encoder 'dinov2'. Did you mean 'dinov2-l-14'\?"):
        build_encoder(EncoderConfig(name="dinov2"))


@pytest.mark.parametrize("name", REAL)
def test_each_encoder_has_the_published_number_of_weights(name: str) -> None:
    with torch.device("meta"):
        encoder = build_encoder(ENCODERS[name])
    assert parameters(encoder) == REAL[name]


def test_every_published_encoder_is_counted_and_has_hub_ids() -> None:
    published = set(ENCODERS) - {"tiny"}
    assert set(REAL) == set(WEIGHTS) == published
    assert all(len(WEIGHTS[name]) == max(1, len(ENCODERS[name].parts)) for name in published)


def test_qwen2_vl_has_this_tower_and_a_merger() -> None:
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    with torch.device("meta"):
        whole = Qwen2VisionTransformerPretrainedModel(Qwen2VLVisionConfig(hidden_size=1536))
    assert parameters(whole) - parameters(whole.merger) == REAL["qwen2-vl-2b"]


def test_open_clips_vit_h_has_this_tower_and_a_projection() -> None:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config("ViT-H-14-378-quickgelu")
    with torch.device("meta"):
        visual = open_clip.CLIP(**config).visual
    assert parameters(visual) - visual.proj.numel() == REAL["dfn-vit-h-14-378"]


@pytest.mark.parametrize("name", TOWERS)
def test_published_towers_are_frozen(name: str) -> None:
    encoder = build_encoder(SMALL[name])
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("name", [name for name in SMALL if name != "tiny"])
@torch.no_grad()
def test_a_patch_changes_its_own_feature_most(name: str) -> None:
    config = SMALL[name]
    encoder = shaken(build_encoder(config))
    plain = torch.zeros(config.grid**2, 3, config.image_size, config.image_size)
    changed = plain.clone()
    for index in range(config.grid**2):
        row, column = divmod(index, config.grid)
        step = config.patch_size
        changed[index, :, row * step : (row + 1) * step, column * step : (column + 1) * step] = 3.0
    difference = (encoder(changed) - encoder(plain)).abs().sum(-1)  # (image with patch i, feature j)
    assert torch.equal(difference.argmax(1), torch.arange(config.grid**2))


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_earlier_layers_are_the_outputs_of_their_blocks(name: str) -> None:
    config = small(name)
    encoder = shaken(build_encoder(dataclasses.replace(config, layers=(-1, -2, -3), dim=3 * WIDTH)))
    last = build_encoder(config)
    last.load_state_dict(encoder.state_dict(), strict=True)
    seen = []
    for module in encoder.tower.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == DEPTH:
            for block in module:
                block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    images = torch.randn(2, 3, SIZE, SIZE)
    features = encoder(images).split(WIDTH, dim=-1)
    assert len(seen) == DEPTH
    assert torch.equal(features[0], last(images))
    assert torch.equal(features[1], seen[1][:, -(GRID**2) :])
    assert torch.equal(features[2], seen[0][:, -(GRID**2) :])


def test_a_layer_beyond_the_depth_is_refused() -> None:
    build_encoder(small("clip-vit-l-14-336", layers=(-4,)))
    with pytest.raises(ValueError, match=r"clip-vit-l-14-336 has 4 hidden states; layers is \(-5,\)"):
        build_encoder(small("clip-vit-l-14-336", layers=(-5,)))
    with pytest.raises(ValueError, match="last hidden state only"):
        build_encoder(dataclasses.replace(SMALL["tiny"], layers=(-2,)))


def test_qwen2_vl_needs_whole_blocks_of_patches() -> None:
    with pytest.raises(ValueError, match="image_size 70 must be a multiple of 28"):
        build_encoder(small("qwen2-vl-2b", image_size=5 * PATCH))


@torch.no_grad()
def test_each_part_gets_the_image_in_its_size_and_normalisation() -> None:
    parts = (small("clip-vit-l-14-336"), small("dinov2-l-14", image_size=28, patch_size=7))
    config = dataclasses.replace(ENCODERS["clip+dinov2"], image_size=SIZE, dim=2 * WIDTH, parts=parts)
    encoder = shaken(build_encoder(config))
    pixels = torch.rand(2, 3, SIZE, SIZE)  # 0..1

    def normalised(pixels: torch.Tensor, part: EncoderConfig) -> torch.Tensor:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (part.mean, part.std))
        return (pixels - mean) / std

    features = encoder(normalised(pixels, config)).split(WIDTH, dim=-1)
    clip, dinov2 = encoder.parts
    assert parts[1].mean != config.mean
    assert torch.allclose(features[0], clip(normalised(pixels, parts[0])), atol=1e-5)
    small_pixels = torch.nn.functional.interpolate(pixels, (28, 28), mode="bilinear", antialias=True)
    assert torch.allclose(features[1], dinov2(normalised(small_pixels, parts[1])), atol=1e-4)


@pytest.mark.parametrize("name", ["clip-vit-l-14-336", "dinov2-l-14", "aimv2-h-14-448", "internvl3-2b", "qwen2-vl-2b"])
@pytest.mark.parametrize("layers", [(-1,), (-2,)])
@torch.no_grad()
def test_an_encoder_can_be_traced_with_a_dynamic_batch(name: str, layers: tuple[int, ...]) -> None:
    encoder = shaken(build_encoder(small(name, layers=layers)))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(encoder, (torch.randn(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},))
    images = torch.randn(3, 3, SIZE, SIZE)
    assert torch.allclose(program.module()(images), encoder(images), atol=1e-5)
