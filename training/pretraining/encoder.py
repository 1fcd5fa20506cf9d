"""The tiny encoder learns to see: contrastive pre-training of picture regions against the phrases that describe them.

As in CLIP (Radford et al. 2021) pictures and text meet in a shared space; as in RegionCLIP (Zhong et al. 2022) the unit
is a region, and as in UniCL (Yang et al. 2022) a region's positives are all texts that say the same, so that equal
phrases in a batch are not each other's negatives.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sf_ros.core.views import normalise
from sf_ros.model.encoders import build_encoder
from training import loop
from training.config import TrainConfig
from training.data.scenes.pictures import Pictures

JOINT_DIM = 128


class RegionText(nn.Module):
    """The contrastive part that is thrown away after pre-training: pooling, a text tower, a temperature."""

    def __init__(self, dim: int, attributes: int, vocabulary: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(attributes, dim) * 0.02)
        self.keys = nn.Linear(dim, dim)
        self.region = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, JOINT_DIM))
        self.words = nn.EmbeddingBag(vocabulary, dim, mode="mean")
        self.text = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, JOINT_DIM))
        self.log_scale = nn.Parameter(torch.tensor(2.3))  # the softmax starts at temperature 0.1

    def regions(self, features: Tensor, masks: Tensor) -> Tensor:
        """Patch features (B, N, dim), patches of up to K regions each (B, K, N) -> unit vectors (B, K, A, JOINT_DIM).

        Every attribute pools a region by its own learned query.
        """
        scores = (self.keys(features) @ self.queries.T).float() / features.shape[-1] ** 0.5  # (B, N, A)
        scores = scores.transpose(1, 2).unsqueeze(1).masked_fill(~masks.unsqueeze(2), -1e9)  # (B, K, A, N)
        pooled = scores.softmax(-1).to(features.dtype).flatten(1, 2) @ features  # (B, K * A, dim)
        return F.normalize(self.region(pooled).float(), dim=-1).unflatten(1, scores.shape[1:3])

    def phrases(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Token ids of all phrases in a row, and where each begins -> unit vectors (P, JOINT_DIM)."""
        return F.normalize(self.text(self.words(tokens, offsets)).float(), dim=-1)


def pretrain_encoder(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerFast,
    pictures: Pictures,
    out: Path,
    *,
    stop_after: int | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a fresh encoder; return it frozen, and the loss history per attribute."""
    assert config.encoder is not None
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.model.encoder).to(memory_format=torch.channels_last)
    contrast = RegionText(config.model.encoder.dim, len(pictures.attributes), len(tokenizer))
    both = nn.ModuleDict({"encoder": encoder, "contrast": contrast})
    see = torch.compile(encoder) if config.compile else encoder
    texts = [_tokens(tokenizer, phrases) for phrases in pictures.phrases]
    batch_size, seed = config.encoder.batch_size, config.seed

    def loss(step: int) -> loop.Losses:
        encoder.train()
        device = contrast.queries.device
        chosen = epoch_slice(len(pictures.views), batch_size, step, seed)
        generator = np.random.default_rng([seed, 13, step])
        views = jitter_colours(pictures.views[chosen], generator)
        for position in np.flatnonzero(pictures.crops[chosen]):
            views[position] = jitter_place(views[position], generator)
        images = torch.from_numpy(normalise(views, config.model.encoder)).contiguous(memory_format=torch.channels_last)
        features = see(images.to(device))  # (B, N, dim)
        rows, owners = pictures.regions_of(chosen)
        places, masks = side_by_side(owners, pictures.masks[rows], len(chosen))
        seen = contrast.regions(features, torch.from_numpy(masks).to(device))
        losses = {}
        for attribute, name in enumerate(pictures.attributes):
            said = pictures.said[rows, attribute]  # phrase index or -1
            keep = np.flatnonzero(said >= 0)
            if len(keep) < 2:
                continue
            vectors = seen[torch.from_numpy(owners[keep]), torch.from_numpy(places[keep]), attribute]
            spoken = contrast.phrases(*(part.to(device) for part in texts[attribute]))
            logits = contrast.log_scale.exp().clamp(max=50) * vectors @ spoken.T
            truth = torch.from_numpy(said[keep].astype(np.int64)).to(device)
            losses[name] = F.cross_entropy(logits, truth) * pictures.weight(name)
        return losses

    history = loop.fit(
        "encoder", both, loss, config.encoder, out,
        precision=config.precision, seed=seed, save_every=config.save_every, stop_after=stop_after,
    )  # fmt: skip
    return encoder.to(memory_format=torch.contiguous_format).requires_grad_(False).eval(), history


def epoch_slice(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The indices of batch `step` when epochs are shuffled one after the other."""
    per_epoch = max(count // batch_size, 1)
    order = np.random.default_rng([seed, 14, step // per_epoch]).permutation(count)
    start = (step % per_epoch) * batch_size
    return np.sort(order[start : start + batch_size])


def side_by_side(owners: np.ndarray, masks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Regions (R, N) of `count` views, ascending by owner -> each region's place in its view, and masks (count, K, N).

    Places without a region see the whole view; nothing is said of them.
    """
    first = np.searchsorted(owners, np.arange(count))
    places = np.arange(len(owners)) - first[owners]
    table = np.ones((count, int(places.max()) + 1, masks.shape[1]), bool)
    table[owners, places] = masks
    return places, table


def jitter_colours(views: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random gain and offset per picture, so that colours are no key to the phrases."""
    gain = generator.uniform(0.8, 1.25, (len(views), 1, 1, 3)).astype(np.float32)
    offset = generator.uniform(-15, 15, (len(views), 1, 1, 1)).astype(np.float32)
    return np.clip(views * gain + offset, 0, 255).astype(np.uint8)


def jitter_place(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A crop (S, S, 3) a little zoomed, turned and moved; frame views stay, their regions are places."""
    size = view.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), generator.uniform(-6, 6), generator.uniform(0.94, 1.08))
    matrix[:, 2] += generator.uniform(-0.03, 0.03, 2) * size
    return cv2.warpAffine(view, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)


def _tokens(tokenizer: PreTrainedTokenizerFast, phrases: list[str]) -> tuple[Tensor, Tensor]:
    ids = [tokenizer.encode(phrase, add_special_tokens=False) for phrase in phrases]
    offsets = np.cumsum([0, *(len(i) for i in ids)])[:-1]
    return torch.tensor([t for i in ids for t in i], dtype=torch.long), torch.from_numpy(offsets)
