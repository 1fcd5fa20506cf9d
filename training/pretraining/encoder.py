"""The tiny encoder learns to encode: contrastive pre-training of picture regions against the phrases that describe them.

As in CLIP (Radford et al. 2021) region_views and text meet in a shared space; as in RegionCLIP (Zhong et al. 2022) the unit
is a region, and as in UniCL (Yang et al. 2022) a region's positives are all texts that say the same, so that equal
phrases in a batch are not each other's negatives. Where a region is a head, the patch that it looks at is told from the
other patches of the picture in the same way (grounding, as in GLIP, Li et al. 2022).
"""

from __future__ import annotations

from pathlib import Path

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
from training.trainer import loop

JOINT_DIM = 128
GROUNDING_WEIGHT = 3.0
GAZE_SIGMA = 0.7  # patches; how sharp the place is that a head looks at


class RegionTextModel(nn.Module):
    """The contrastive part, thrown away after pre-training: pooling, towers of texts and of patches, temperatures."""

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
        """Patch features (B, N, dim), patches of up to K regions each (B, K, N) -> unit vectors (B, K, A, JOINT_DIM).

        Every attribute pools a region by its own learned query.
        """
        scores = (self.keys(features) @ self.queries.T).float() / features.shape[-1] ** 0.5  # (B, N, A)
        scores = scores.transpose(1, 2).unsqueeze(1).masked_fill(~masks.unsqueeze(2), -1e9)  # (B, K, A, N)
        pooled = scores.softmax(-1).to(features.dtype).flatten(1, 2) @ features  # (B, K * A, dim)
        return F.normalize(self.region(pooled).float(), dim=-1).unflatten(1, scores.shape[1:3])

    def grounding(self, features: Tensor, masks: Tensor) -> Tensor:
        """Patch features (H, N, dim), the patches of one head in each (H, N) -> logits (H, N) of what it looks at."""
        share = masks.to(features.dtype) / masks.sum(1, keepdim=True).clamp(min=1)
        mean = (share.unsqueeze(1) @ features).squeeze(1)
        most = features.masked_fill(~masks.unsqueeze(2), -1e4).amax(1)
        head = F.normalize(self.head(torch.cat([mean, most], -1)).float(), dim=-1)
        patches = F.normalize(self.patch(features).float(), dim=-1)
        return self.log_scale_patch.exp().clamp(max=50) * (patches @ head.unsqueeze(2)).squeeze(2)

    def phrases(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Token ids of all phrases in a row, and where each begins -> unit vectors (P, JOINT_DIM)."""
        return F.normalize(self.text(self.words(tokens, offsets)).float(), dim=-1)


def pretrain_encoder(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerFast,
    region_views: RegionViews,
    out: Path,
    *,
    stop_after: int | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a fresh encoder; return it frozen, and the loss history per attribute."""
    assert config.encoder is not None
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.model.encoder).to(memory_format=torch.channels_last)
    contrast = RegionTextModel(config.model.encoder.dim, len(region_views.attributes), len(tokenizer))
    both = nn.ModuleDict({"encoder": encoder, "contrast": contrast})
    encode = torch.compile(encoder) if config.compile else encoder
    texts = [_tokens(tokenizer, phrases) for phrases in region_views.phrases]
    mirrored = [mirrored_phrases(phrases) for phrases in region_views.phrases]
    grid, batch_size, seed = config.model.encoder.grid, config.encoder.batch_size, config.seed

    def loss(step: int) -> loop.Losses:
        encoder.train()
        device = contrast.queries.device
        generator = np.random.default_rng([seed, 13, step])
        chosen = sample_views(region_views.kinds, batch_size, step, seed)
        flipped = generator.random(len(chosen)) < 0.5
        views = np.stack(
            [view[:, ::-1] if flip else view for view, flip in zip(region_views.views[chosen], flipped, strict=True)]
        )
        for position in np.flatnonzero(region_views.crops[chosen]):
            views[position] = jitter_geometry(views[position], generator)
        images = normalise_with_jitter(
            torch.from_numpy(views).to(device), config.model.encoder, *sample_color_jitter(len(views), generator)
        )
        features = encode(images.contiguous(memory_format=torch.channels_last))  # (B, N, dim)
        rows, view_indices = region_views.regions_of(chosen)
        flip = flipped[view_indices]
        row_masks = np.where(flip[:, None], mirrored_masks(region_views.masks[rows], grid), region_views.masks[rows])
        places, masks = pad_regions(view_indices, row_masks, len(chosen))
        seen = contrast.regions(features, torch.from_numpy(masks).to(device))
        losses = {}
        for attribute, name in enumerate(region_views.attributes):
            said = region_views.said[rows, attribute]  # phrase index or -1
            said = np.where(flip & (said >= 0), mirrored[attribute][said], said)
            keep = np.flatnonzero(said >= 0)
            if len(keep) < 2:
                continue
            vectors = seen[torch.from_numpy(view_indices[keep]), torch.from_numpy(places[keep]), attribute]
            text_vectors = contrast.phrases(*(part.to(device) for part in texts[attribute]))
            logits = contrast.log_scale.exp().clamp(max=50) * vectors @ text_vectors.T
            truth = torch.from_numpy(said[keep].astype(np.int64)).to(device)
            balance = torch.from_numpy(region_views.balance[attribute]).to(device)
            losses[name] = F.cross_entropy(logits, truth, balance) * region_views.weight(name)
        points = region_views.looked_at[rows]
        heads = np.flatnonzero(~np.isnan(points[:, 0]))
        if len(heads):
            points = np.where(flip[heads, None], [1, 0] + points[heads] * [-1, 1], points[heads])
            targets = torch.from_numpy(patch_targets(points, grid)).to(device)
            logits = contrast.grounding(
                features[torch.from_numpy(view_indices[heads])], torch.from_numpy(row_masks[heads]).to(device)
            )
            losses["looked_at"] = F.cross_entropy(logits, targets) * GROUNDING_WEIGHT
        return losses

    history = loop.fit(
        "encoder", both, loss, config.encoder, out,
        precision=config.precision, seed=seed, save_every=config.save_every, stop_after=stop_after,
    )  # fmt: skip
    return encoder.to(memory_format=torch.contiguous_format).requires_grad_(False).eval(), history


def sample_views(kinds: np.ndarray, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Indices (B,) of a batch's views, ascending: every kind has its share, and its views come in shuffled epochs."""
    drawn, end = [], 0.0
    total = sum(share for kind, share in enumerate(VIEW_SHARES.values()) if (kinds == kind).any())
    for kind, share in enumerate(VIEW_SHARES.values()):
        members = np.flatnonzero(kinds == kind)
        if len(members) == 0:
            continue
        start, end = end, end + share / total * batch_size
        count = round(end) - round(start)
        drawn.append(members[epoch_batch(len(members), count, step, seed + kind)])
    return np.sort(np.concatenate(drawn))


def epoch_batch(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The indices of batch `step` when epochs are shuffled one after the other."""
    per_epoch = max(count // max(batch_size, 1), 1)
    order = np.random.default_rng([seed, 14, step // per_epoch]).permutation(count)
    start = (step % per_epoch) * batch_size
    return np.sort(order[start : start + batch_size])


def pad_regions(view_indices: np.ndarray, masks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Regions (R, N) of `count` views, ascending by owner -> each region's place in its view, and masks (count, K, N).

    Places without a region encode the whole view; nothing is said of them.
    """
    first = np.searchsorted(view_indices, np.arange(count))
    places = np.arange(len(view_indices)) - first[view_indices]
    table = np.ones((count, int(places.max()) + 1, masks.shape[1]), bool)
    table[view_indices, places] = masks
    return places, table


def mirrored_phrases(phrases: list[str]) -> np.ndarray:
    """Index of what each phrase becomes in a mirrored picture, -1 where no phrase says that."""
    swap = {"left": "right", "right": "left"}
    said = [" ".join(swap.get(word, word) for word in phrase.split()) for phrase in phrases]
    return np.array([phrases.index(phrase) if phrase in phrases else -1 for phrase in said])


def mirrored_masks(masks: np.ndarray, grid: int) -> np.ndarray:
    """Patches (R, grid * grid) of a mirrored picture."""
    return masks.reshape(-1, grid, grid)[:, :, ::-1].reshape(masks.shape)


def patch_targets(points: np.ndarray, grid: int) -> np.ndarray:
    """Points (R, 2), x and y in 0..1 -> probabilities (R, grid * grid) over the patches around them, float32."""
    centres = np.arange(grid) + 0.5
    along = np.exp(-((points[:, :, None] * grid - centres) ** 2) / (2 * GAZE_SIGMA**2))  # (R, 2, grid)
    spread = (along[:, 1, :, None] * along[:, 0, None, :]).reshape(len(points), -1)
    return (spread / spread.sum(1, keepdims=True)).astype(np.float32)


def sample_color_jitter(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random gain (B, 3) and offset (B, 1) of the 8-bit colours, so that colours are no key to the phrases."""
    return generator.uniform(0.8, 1.25, (count, 3)), generator.uniform(-15, 15, (count, 1))


def normalise_with_jitter(views: Tensor, encoder: EncoderConfig, gain: np.ndarray, offset: np.ndarray) -> Tensor:
    """What `core.views.normalise` makes of uint8 views (B, S, S, 3) under another jitter: float32 (B, 3, S, S)."""
    jitter = torch.from_numpy(np.stack([gain, np.broadcast_to(offset, gain.shape)]).astype(np.float32)).to(views.device)
    mean, std = (torch.tensor(v, dtype=torch.float32, device=views.device) * 255 for v in (encoder.mean, encoder.std))
    jittered = torch.addcmul(jitter[1][:, None, None], views.float(), jitter[0][:, None, None]).clamp_(0, 255)
    return jittered.sub_(mean).div_(std).permute(0, 3, 1, 2)


def jitter_geometry(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A crop (S, S, 3) a little zoomed, turned and moved; frame views stay, their regions are places."""
    size = view.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), generator.uniform(-6, 6), generator.uniform(0.94, 1.08))
    matrix[:, 2] += generator.uniform(-0.03, 0.03, 2) * size
    return cv2.warpAffine(view, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _tokens(tokenizer: PreTrainedTokenizerFast, phrases: list[str]) -> tuple[Tensor, Tensor]:
    ids = [tokenizer.encode(phrase, add_special_tokens=False) for phrase in phrases]
    offsets = np.cumsum([0, *(len(i) for i in ids)])[:-1]
    return torch.tensor([t for i in ids for t in i], dtype=torch.long), torch.from_numpy(offsets)
