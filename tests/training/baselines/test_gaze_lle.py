"""Gaze-LLE has the published architecture and names, and it learns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.config import EncoderConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.core.gaze import encode
from sf_ros.core.types import Box
from sf_ros.model.encoders import build_encoder
from tests.training.baselines.trials import adam, trained
from training.baselines.gaze_lle import (
    Block,
    GazeLle,
    GazeLleConfig,
    GazeLleHead,
    head_mask,
    position_encoding,
)
from training.baselines.interface import load_trained, save_trained
from training.data.sample import Sample

ENCODER = EncoderConfig(image_size=96, dim=32, depth=1, heads=2)  # 8 x 8 patches
SMALL = GazeLleConfig(dim=32, layers=2, heads=4, heatmap_size=16, heatmap_sigma=1.0, augment=False)

# The published names (fkryan/gazelle, gazelle/model.py, and timm's Block), with the shapes for ViT-L at 448 px.
_BLOCK = {
    "norm1.weight": (256,), "norm1.bias": (256,), "attn.qkv.weight": (768, 256),
    "attn.proj.weight": (256, 256), "attn.proj.bias": (256,), "norm2.weight": (256,), "norm2.bias": (256,),
    "mlp.fc1.weight": (1024, 256), "mlp.fc1.bias": (1024,), "mlp.fc2.weight": (256, 1024), "mlp.fc2.bias": (256,),
}  # fmt: skip
PUBLISHED = {
    "linear.weight": (256, 1024, 1, 1), "linear.bias": (256,), "pos_embed": (256, 32, 32),
    **{f"transformer.{i}.{name}": shape for i in range(3) for name, shape in _BLOCK.items()},
    "heatmap_head.0.weight": (256, 256, 2, 2), "heatmap_head.0.bias": (256,), "heatmap_head.1.weight": (1, 256, 1, 1),
    "head_token.weight": (1, 256),
}  # fmt: skip
PUBLISHED_INOUT = PUBLISHED | {
    "inout_head.0.weight": (128, 256), "inout_head.0.bias": (128,), "inout_head.3.weight": (1, 128),
    "inout_head.3.bias": (1,), "inout_token.weight": (1, 256),
}  # fmt: skip


def model(config: GazeLleConfig = SMALL) -> GazeLle:
    torch.manual_seed(3)
    return GazeLle(build_encoder(ENCODER), ENCODER, config)


def sample(box: Box, point: tuple[float, float]) -> Sample:
    image = np.full((60, 80, 3), 90, np.uint8)
    image[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = (250, 40, 40)
    return Sample("gaze", image, (box,), points_norm=(point,))


SAMPLES = [sample(Box(8, 8, 24, 26), (0.8, 0.3)), sample(Box(50, 30, 66, 48), (0.2, 0.7))]


@pytest.mark.parametrize(("dim", "count"), [(768, 2_826_752), (1024, 2_892_288), (1280, 2_957_824), (1536, 3_023_360)])
def test_head_has_the_published_number_of_weights(dim: int, count: int) -> None:
    with torch.device("meta"):
        head = GazeLleHead(dim, 32, GazeLleConfig())
    assert sum(p.numel() for p in head.parameters()) == count


@pytest.mark.parametrize(("inout", "published"), [(False, PUBLISHED), (True, PUBLISHED_INOUT)])
def test_names_and_shapes_are_the_published_ones(inout: bool, published: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        head = GazeLleHead(1024, 32, GazeLleConfig(inout=inout))
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == published


def test_published_file_loads_strictly(tmp_path: Path) -> None:
    head = GazeLleHead(1024, 32, GazeLleConfig())
    weights = {name: torch.randn(shape) for name, shape in PUBLISHED.items()}
    torch.save(weights | {"backbone.model.cls_token": torch.zeros(1)}, tmp_path / "gazelle.pt")
    head.load_published(tmp_path / "gazelle.pt")
    assert all(torch.equal(value, weights[name]) for name, value in head.state_dict().items())
    torch.save({k: v for k, v in weights.items() if k != "head_token.weight"}, tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"less\.pt.*head_token"):
        head.load_published(tmp_path / "less.pt")


def test_positions_are_sines_and_cosines_of_x_then_y() -> None:
    encoding = position_encoding(8, 4)  # channels: sin x, cos x, sin x/100, cos x/100, then the same of y
    assert encoding.shape == (8, 4, 4)
    y, x = 3, 2
    expected = [f(v / base) for v in (x, y) for base in (1, 100) for f in (math.sin, math.cos)]
    assert encoding[:, y, x].tolist() == pytest.approx(expected, abs=1e-6)


def test_head_mask_rounds_its_edges() -> None:
    mask = head_mask((0.24, 0.26, 0.74, 0.4), 8)  # edges 1.92, 2.08, 5.92, 3.2
    assert mask.nonzero().tolist() == [[2, x] for x in range(2, 6)]
    assert head_mask((0.5, 0.5, 0.54, 0.54), 8).sum() == 0
    assert head_mask(None, 8).sum() == 0
    assert head_mask((-0.3, -0.1, 1.2, 0.125), 8).nonzero().tolist() == [[0, x] for x in range(8)]


def test_block_is_attention_and_mlp_by_hand() -> None:
    torch.manual_seed(0)
    block, x = Block(8, 2, 0.0), torch.randn(1, 3, 8)
    h = torch.nn.functional.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias)
    query, key, value = (part.view(3, 2, 4) for part in (h[0] @ block.attn.qkv.weight.T).split(8, dim=1))
    out = torch.empty(3, 2, 4)
    for i in range(2):
        out[:, i] = torch.softmax(query[:, i] @ key[:, i].T / 2, dim=1) @ value[:, i]
    y = x + block.attn.proj(out.reshape(1, 3, 8))
    z = block.norm2(y) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    expected = y + block.mlp.fc2(z * 0.5 * (1 + torch.erf(z / math.sqrt(2))))
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_drop_path_drops_samples_and_keeps_the_mean() -> None:
    block, x = Block(8, 2, 0.25), torch.ones(8000, 2, 8)
    dropped = block.train()._dropped(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped == dropped[:, :1, :1]).all() and dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(block.eval()._dropped(x), x)


@pytest.mark.parametrize(("grid", "size"), [(32, 64), (24, 64), (37, 64)])
def test_heatmap_size_does_not_depend_on_the_grid(grid: int, size: int) -> None:
    head = GazeLleHead(16, grid, dataclasses.replace(SMALL, heatmap_size=size)).eval()
    heatmap, inside = head(torch.randn(2, grid * grid, 16), [(0.1, 0.1, 0.3, 0.3), None])
    assert heatmap.shape == (2, size, size) and inside is None
    assert 0 < heatmap.min() < heatmap.max() < 1


def test_inout_adds_a_probability_and_keeps_the_heatmap() -> None:
    head = GazeLleHead(16, 4, dataclasses.replace(SMALL, inout=True, layers=0)).eval()
    plain = GazeLleHead(16, 4, dataclasses.replace(SMALL, layers=0)).eval()
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("inout")}, strict=True)
    features, boxes = torch.randn(2, 16, 16), [(0.0, 0.0, 0.5, 0.5)] * 2
    heatmap, inside = head(features, boxes)
    assert torch.equal(heatmap, plain(features, boxes)[0])  # without layers the extra token has no effect
    assert inside.shape == (2,) and inside.min() > 0 and inside.max() < 1


def test_heatmap_depends_on_the_head_box() -> None:
    lle = model()
    first, second = (lle.answer(dataclasses.replace(SAMPLES[0], boxes=s.boxes)).heatmap for s in SAMPLES)
    assert first.shape == (16, 16) and 0 <= first.min() <= first.max() <= 1
    assert np.abs(first - second).max() > 1e-4
    assert np.array_equal(first, lle.answer(SAMPLES[0]).heatmap)  # answers are deterministic


def test_loss_is_mean_binary_cross_entropy() -> None:
    lle = model(dataclasses.replace(SMALL, drop_path=0.0))
    heatmap = torch.from_numpy(np.stack([lle.answer(s).heatmap for s in SAMPLES]))
    target = torch.from_numpy(np.stack([encode(s.points_norm[0], 16, 1.0) for s in SAMPLES]))
    expected = -(target * heatmap.log() + (1 - target) * (1 - heatmap).log()).mean()
    assert lle.loss(SAMPLES)["gaze"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_the_head_is_trained() -> None:
    lle = model()
    before = {name: value.clone() for name, value in lle.encoder.state_dict().items()}
    lle.loss(SAMPLES)["gaze"].backward()
    assert lle.head.training and not lle.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in lle.encoder.state_dict().items())
    assert {name.partition(".")[0] for name, p in lle.named_parameters() if p.grad is not None} == {"head"}


def test_a_few_steps_lower_the_loss() -> None:
    lle = model()
    losses = trained(lle, SAMPLES, 40, adam(lle, 1e-3))
    assert losses[-1] < 0.6 * losses[0]


def test_augmentation_follows_torchs_random_state() -> None:
    lle = model(dataclasses.replace(SMALL, augment=True))
    torch.manual_seed(5)
    first = [lle.loss(SAMPLES)["gaze"].item() for _ in range(4)]
    torch.manual_seed(5)
    assert [lle.loss(SAMPLES)["gaze"].item() for _ in range(4)] == first
    assert len(set(first)) == 4


def test_mixed_precision_trains() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = model().loss(SAMPLES)["gaze"]
    loss.backward()
    assert math.isfinite(loss.item()) and loss.dtype == torch.float32


def test_trained_weights_are_saved_without_encoder(tmp_path: Path) -> None:
    lle = model()
    save_trained(lle, tmp_path / "gaze.safetensors")
    torch.manual_seed(9)
    other = GazeLle(lle.encoder, ENCODER, SMALL)
    assert not np.allclose(other.answer(SAMPLES[0]).heatmap, lle.answer(SAMPLES[0]).heatmap)
    load_trained(other, tmp_path / "gaze.safetensors")
    assert np.array_equal(other.answer(SAMPLES[0]).heatmap, lle.answer(SAMPLES[0]).heatmap)
    with pytest.raises(ValueError, match="not the trained weights of this model"):
        load_trained(model(dataclasses.replace(SMALL, layers=1)), tmp_path / "gaze.safetensors")
    with pytest.raises(ValueError, match="weights of another size"):
        load_trained(model(dataclasses.replace(SMALL, dim=16)), tmp_path / "gaze.safetensors")


def test_other_tasks_and_inout_training_are_refused() -> None:
    wrong = Sample("domain", SAMPLES[0].image, SAMPLES[0].boxes * 2, label=1)
    with pytest.raises(ValueError, match="does not answer 'domain'; expected gaze"):
        model().answer(wrong)
    with pytest.raises(ValueError, match="does not answer 'domain'"):
        model().loss([wrong])
    with pytest.raises(NotAvailable, match="inout"):
        model(dataclasses.replace(SMALL, inout=True)).loss(SAMPLES)
