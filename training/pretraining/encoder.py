"""Pre-training of the tiny presets' encoder: contrastive learning of image regions and the phrases that describe them.

Images and text share an embedding space as in CLIP (Radford et al. 2021); the unit is a region as in RegionCLIP (Zhong
et al. 2022); equal phrases are positives of each other, not negatives, as in UniCL (Yang et al. 2022). For a region
that is a head, the patch of its gaze target is contrasted with all others (grounding as in GLIP, Li et al. 2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders import build_encoder
from training.config import TrainConfig
from training.data.scenes.text.regions import VIEW_SHARES, RegionViews
from training.trainer.loop import Trainer
from training.trainer.objective import Losses

JOINT_DIM = 128
GROUNDING_WEIGHT = 3.0
GAZE_SIGMA = 0.7  # patches; standard deviation of the gaze target


class RegionTextModel(nn.Module):
    """The contrastive heads, discarded after pre-training: region pooling, text and patch towers, temperatures."""

    def __init__(self, dim: int, attributes: int, vocabulary: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(attributes, dim) * 0.02)
        self.keys = nn.Linear(dim, dim)
        self.region = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, JOINT_DIM))
        self.words = nn.EmbeddingBag(vocabulary, dim, mode="mean")
        self.text = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, JOINT_DIM))
        self.head = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, JOINT_DIM))
        self.patch = nn.Linear(dim, JOINT_DIM)
        self.log_scale = nn.Parameter(torch.tensor(2.3))  # the softmax starts at temperature 0.1
        self.log_scale_patch = nn.Parameter(torch.tensor(2.3))

    def regions(self, features: Tensor, masks: Tensor) -> Tensor:
        """Patch features (B, N, dim) and masks of up to K regions (B, K, N) -> unit vectors (B, K, A, JOINT_DIM).

        Each attribute pools the region with its own learned query.
        """
        scores = (self.keys(features) @ self.queries.T).float() / features.shape[-1] ** 0.5  # (B, N, A)
        scores = scores.transpose(1, 2).unsqueeze(1).masked_fill(~masks.unsqueeze(2), -1e9)  # (B, K, A, N)
        pooled = scores.softmax(-1).to(features.dtype).flatten(1, 2) @ features  # (B, K * A, dim)
        return F.normalize(self.region(pooled).float(), dim=-1).unflatten(1, scores.shape[1:3])

    def grounding(self, features: Tensor, masks: Tensor) -> Tensor:
        """Patch features (H, N, dim) and the mask of one head in each (H, N) -> logits (H, N) of its gaze target."""
        share = masks.to(features.dtype) / masks.sum(1, keepdim=True).clamp(min=1)
        mean = (share.unsqueeze(1) @ features).squeeze(1)
        maximum = features.masked_fill(~masks.unsqueeze(2), -1e4).amax(1)
        head = F.normalize(self.head(torch.cat([mean, maximum], -1)).float(), dim=-1)
        patches = F.normalize(self.patch(features).float(), dim=-1)
        return self.log_scale_patch.exp().clamp(max=50) * (patches @ head.unsqueeze(2)).squeeze(2)

    def phrases(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Concatenated token ids of P phrases and their offsets (P,) -> unit vectors (P, JOINT_DIM)."""
        return F.normalize(self.text(self.words(tokens, offsets)).float(), dim=-1)


def pretrain_encoder(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerFast,
    region_views: RegionViews,
    out: Path,
    *,
    stop_after: int | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train an encoder from random weights; returns it frozen, with the loss history by attribute."""
    assert config.encoder is not None
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.model.encoder).to(memory_format=torch.channels_last)
    contrast = RegionTextModel(config.model.encoder.dim, len(region_views.attributes), len(tokenizer))
    trained = nn.ModuleDict({"encoder": encoder, "contrast": contrast})
    encode = torch.compile(encoder, dynamic=False) if config.compile else encoder  # one graph per size of views
    texts = [_tokens(tokenizer, phrases) for phrases in region_views.phrases]
    counterparts = [mirrored_phrases(phrases) for phrases in region_views.phrases]
    grid = config.model.encoder.grid
    crop_sizes = config.encoder_crop_sizes or (config.model.crop_encoder.image_size,)
    batch_size, seed = config.encoder.batch_size, config.seed

    def objective(model: nn.ModuleDict, step: int) -> Losses:
        contrast = cast(RegionTextModel, model["contrast"])
        model["encoder"].train()
        device = contrast.queries.device
        generator = np.random.default_rng([seed, 13, step])
        chosen = sample_views(region_views.kinds, batch_size, step, seed)
        mirrored = generator.random(len(chosen)) < 0.5
        views = _augmented(region_views, chosen, mirrored, generator)
        images = normalise_with_jitter(
            torch.from_numpy(views).to(device), config.model.encoder, *sample_color_jitter(len(views), generator)
        )
        rows, view_indices = region_views.regions_of(chosen)
        flip = mirrored[view_indices]
        masks = np.where(flip[:, None], mirrored_masks(region_views.masks[rows], grid), region_views.masks[rows])
        slots, padded_masks = pad_regions(view_indices, masks, len(chosen))
        crop_grid = crop_sizes[step % len(crop_sizes)] // config.model.encoder.patch_size
        groups = seen_together(region_views.crops[chosen], grid, crop_grid)
        parts, features = list[Tensor](), torch.empty(0)
        for members, side in reversed(groups):  # whole frames last: their features locate gaze targets
            features = encode(resized(images[torch.from_numpy(members)], side / grid))  # (b, n, dim)
            regions = torch.from_numpy(regridded(padded_masks[members], grid, side)).to(device)
            parts.insert(0, contrast.regions(features, regions))
        order = np.argsort(np.concatenate([members for members, _ in groups]))
        region_vectors = torch.cat(parts)[torch.from_numpy(order)]
        losses = {}
        for attribute, name in enumerate(region_views.attributes):
            phrase_ids = region_views.phrase_ids[rows, attribute]  # -1 for none
            phrase_ids = np.where(flip & (phrase_ids >= 0), counterparts[attribute][phrase_ids], phrase_ids)
            labelled = np.flatnonzero(phrase_ids >= 0)
            if len(labelled) < 2:
                continue
            view_rows, slot_rows = (torch.from_numpy(index[labelled]) for index in (view_indices, slots))
            vectors = region_vectors[view_rows, slot_rows, attribute]
            text_vectors = contrast.phrases(*(part.to(device) for part in texts[attribute]))
            logits = contrast.log_scale.exp().clamp(max=50) * vectors @ text_vectors.T
            truth = torch.from_numpy(phrase_ids[labelled].astype(np.int64)).to(device)
            balance = torch.from_numpy(region_views.balance[attribute]).to(device)
            losses[name] = F.cross_entropy(logits, truth, balance) * region_views.weight(name)
        points = region_views.gaze_points_norm[rows]
        heads = np.flatnonzero(~np.isnan(points[:, 0]))
        if len(heads):
            points = np.where(flip[heads, None], [1, 0] + points[heads] * [-1, 1], points[heads])
            targets = torch.from_numpy(patch_targets(points, grid)).to(device)
            frames = np.searchsorted(groups[0][0], view_indices[heads])
            head_features = features[torch.from_numpy(frames)]
            logits = contrast.grounding(head_features, torch.from_numpy(masks[heads]).to(device))
            losses["gaze_target"] = F.cross_entropy(logits, targets) * GROUNDING_WEIGHT
        return losses

    trainer = Trainer.of("encoder", config, config.encoder, out, stop_after=stop_after)
    history = trainer.fit(trained, trainer.step_numbers, objective)
    return encoder.to(memory_format=torch.contiguous_format).requires_grad_(False).eval(), history


def _augmented(
    region_views: RegionViews, chosen: np.ndarray, mirrored: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The chosen views (B, S, S, 3), mirrored where `mirrored` (B,) says so, crops with geometric jitter."""
    views = np.stack(
        [view[:, ::-1] if flip else view for view, flip in zip(region_views.views[chosen], mirrored, strict=True)]
    )
    for position in np.flatnonzero(region_views.crops[chosen]):
        views[position] = jitter_geometry(views[position], generator)
    return views


def sample_views(kinds: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Indices (B,) of a batch's views, ascending: a share of each kind (VIEW_SHARES), each in shuffled epochs."""
    batch, end = [], 0.0
    total = sum(share for kind, share in enumerate(VIEW_SHARES.values()) if (kinds == kind).any())
    for kind, share in enumerate(VIEW_SHARES.values()):
        members = np.flatnonzero(kinds == kind)
        if len(members) == 0:
            continue
        start, end = end, end + share / total * batch_size
        count = round(end) - round(start)
        batch.append(members[epoch_batch(len(members), count, step, seed + kind)])
    return np.sort(np.concatenate(batch))


def epoch_batch(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Indices of batch `step` of shuffled epochs, ascending."""
    per_epoch = max(count // max(batch_size, 1), 1)
    order = np.random.default_rng([seed, 14, step // per_epoch]).permutation(count)
    start = (step % per_epoch) * batch_size
    return np.sort(order[start : start + batch_size])


def pad_regions(view_indices: np.ndarray, masks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Region masks (R, N) of `count` views -> slot of each region in its view (R,), padded masks (count, K, N).

    `view_indices` (R,) is ascending. Unused slots have full masks and no phrases.
    """
    first = np.searchsorted(view_indices, np.arange(count))
    slots = np.arange(len(view_indices)) - first[view_indices]
    padded = np.ones((count, int(slots.max()) + 1, masks.shape[1]), bool)
    padded[view_indices, slots] = masks
    return slots, padded


def seen_together(crops: np.ndarray, grid: int, crop_grid: int) -> list[tuple[np.ndarray, int]]:
    """Views of one size, as indices (b,) of a batch with their patches on a side: all, or frames and then crops."""
    if crop_grid == grid or not crops.any():
        return [(np.arange(len(crops)), grid)]
    groups = (np.flatnonzero(~crops), grid), (np.flatnonzero(crops), crop_grid)
    return [(members, side) for members, side in groups if len(members)]


def resized(images: Tensor, share: float) -> Tensor:
    """Views (B, 3, S, S) as the encoder takes them, smaller by a share of their side."""
    if share != 1:
        size = round(images.shape[-1] * share)
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


def regridded(masks: np.ndarray, grid: int, side: int) -> np.ndarray:
    """Patch masks (..., grid * grid) on a grid of side x side patches: True where a marked patch is touched."""
    if side == grid:
        return masks
    fine = np.lcm(grid, side)
    square = masks.reshape(*masks.shape[:-1], grid, grid).repeat(fine // grid, -2).repeat(fine // grid, -1)
    cells = square.reshape(*masks.shape[:-1], side, fine // side, side, fine // side)
    return cells.any((-3, -1)).reshape(*masks.shape[:-1], side * side)


def mirrored_phrases(phrases: list[str]) -> np.ndarray:
    """Index of each phrase's counterpart in a mirrored image, -1 if it is not among the phrases."""
    swap = {"left": "right", "right": "left"}
    counterparts = [" ".join(swap.get(word, word) for word in phrase.split()) for phrase in phrases]
    return np.array([phrases.index(phrase) if phrase in phrases else -1 for phrase in counterparts])


def mirrored_masks(masks: np.ndarray, grid: int) -> np.ndarray:
    """Patch masks (R, grid * grid) of the mirrored images."""
    return masks.reshape(-1, grid, grid)[:, :, ::-1].reshape(masks.shape)


def patch_targets(points: np.ndarray, grid: int) -> np.ndarray:
    """Points (R, 2), x and y in 0..1 -> Gaussian probabilities (R, grid * grid) over the patches, float32."""
    centres = np.arange(grid) + 0.5
    along = np.exp(-((points[:, :, None] * grid - centres) ** 2) / (2 * GAZE_SIGMA**2))  # (R, 2, grid)
    spread = (along[:, 1, :, None] * along[:, 0, None, :]).reshape(len(points), -1)
    return (spread / spread.sum(1, keepdims=True)).astype(np.float32)


def sample_color_jitter(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random gain (B, 3) and offset (B, 1) of 8-bit colours, against learning phrases from exact colours."""
    return generator.uniform(0.8, 1.25, (count, 3)), generator.uniform(-15, 15, (count, 1))


def normalise_with_jitter(views: Tensor, encoder: EncoderConfig, gain: np.ndarray, offset: np.ndarray) -> Tensor:
    """uint8 views (B, S, S, 3) with colour gain and offset, normalised as by core.views: float32 (B, 3, S, S)."""
    jitter = torch.from_numpy(np.stack([gain, np.broadcast_to(offset, gain.shape)]).astype(np.float32)).to(views.device)
    mean, std = (torch.tensor(v, dtype=torch.float32, device=views.device) * 255 for v in (encoder.mean, encoder.std))
    jittered = torch.addcmul(jitter[1][:, None, None], views.float(), jitter[0][:, None, None]).clamp_(0, 255)
    return jittered.sub_(mean).div_(std).permute(0, 3, 1, 2)


def jitter_geometry(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A crop (S, S, 3) zoomed, rotated and shifted a little. Not for frame views, whose regions are positions."""
    size = view.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), generator.uniform(-6, 6), generator.uniform(0.94, 1.08))
    matrix[:, 2] += generator.uniform(-0.03, 0.03, 2) * size
    return cv2.warpAffine(view, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _tokens(tokenizer: PreTrainedTokenizerFast, phrases: list[str]) -> tuple[Tensor, Tensor]:
    ids = [tokenizer.encode(phrase, add_special_tokens=False) for phrase in phrases]
    offsets = np.cumsum([0, *(len(i) for i in ids)])[:-1]
    return torch.tensor([t for i in ids for t in i], dtype=torch.long), torch.from_numpy(offsets)
