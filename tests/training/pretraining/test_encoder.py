"""Encoder pre-training: batches, regions, jitter, and losses that fall."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.types import Box
from sf_ros.core.views import normalise
from sf_ros.model.encoders import build_encoder
from tests.training.pretraining.toy import CAPTIONS, TOY
from training.data.scenes.dataset import face_is_readable
from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene
from training.data.scenes.text import regions as region_data
from training.data.scenes.text.regions import RegionViews
from training.pretraining import encoder


@pytest.fixture(scope="module")
def region_views() -> RegionViews:
    """Six views of two kinds, red and blue; the second attribute has few phrases."""
    views = np.random.default_rng(0).integers(0, 40, (6, 48, 48, 3), np.uint8)
    views[0::2, ..., 0] += 200
    views[1::2, ..., 2] += 200
    kinds = np.array([0, 0, 1, 1, 2, 2], np.uint8)  # two persons, two faces, two frames
    masks = np.ones((6, 16), bool)
    masks[4:, 3] = False
    gaze_points = np.full((6, 2), np.nan, np.float32)
    gaze_points[4] = 0.9, 0.1
    phrase_ids = np.array([[0, 0], [1, -1], [0, -1], [1, 1], [0, 0], [1, 1]], np.int16)
    phrases = (["a red wall", "a blue wall"], ["on the left", "on the right"])
    return RegionViews(
        views, kinds, np.arange(6), masks, phrase_ids, gaze_points, ("colour", "side"), phrases, tuple(CAPTIONS)
    )


def test_epochs_are_permutations() -> None:
    slices = [encoder.epoch_batch(12, 4, step, seed=1) for step in range(6)]
    for epoch in (slices[:3], slices[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(12))
        assert all((np.diff(part) > 0).all() for part in epoch)  # ascending, as regions_of wants
    assert any(not np.array_equal(a, b) for a, b in zip(slices[:3], slices[3:], strict=True))
    assert np.array_equal(slices[4], encoder.epoch_batch(12, 4, 4, seed=1))


def test_a_small_dataset_is_one_batch() -> None:
    assert encoder.epoch_batch(3, 8, step=5, seed=0).tolist() == [0, 1, 2]


def test_regions_are_padded_per_view() -> None:
    masks = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    slots, padded = encoder.pad_regions(np.array([0, 0, 2, 2]), masks, 3)
    assert slots.tolist() == [0, 1, 0, 1]
    assert padded.astype(int).tolist() == [
        [[1, 0, 0], [0, 1, 0]],
        [[1, 1, 1], [1, 1, 1]],  # the view without regions: full masks
        [[0, 0, 1], [1, 1, 0]],
    ]


def test_regions_of_chosen_views_point_into_the_choice() -> None:
    view_indices = np.array([0, 0, 1, 2, 2, 2, 4])
    views, kinds, masks = np.zeros((5, 1, 1, 3)), np.zeros(5), np.ones((7, 1), bool)
    region_views = RegionViews(views, kinds, view_indices, masks, np.zeros((7, 0)), np.zeros((7, 2)), (), (), ())
    rows, positions = region_views.regions_of(np.array([0, 2, 4]))
    assert rows.tolist() == [0, 1, 3, 4, 5, 6] and positions.tolist() == [0, 0, 1, 1, 1, 2]


def test_person_and_face_views_are_crops(region_views: RegionViews) -> None:
    assert region_views.crops.tolist() == [True, True, True, True, False, False]


def test_phrase_weights_balance_rare_phrases(region_views: RegionViews) -> None:
    colour, side = region_views.balance
    assert colour == pytest.approx([1, 1]) and side == pytest.approx([1, 1])


def test_a_batch_has_the_share_of_each_kind_of_view() -> None:
    kinds = np.repeat(np.array([0, 1, 2], np.uint8), (300, 1000, 200))
    kinds_by_step = [kinds[encoder.sample_views(kinds, 50, step, seed=3)] for step in range(20)]
    shares = np.array(list(region_data.VIEW_SHARES.values()))
    for batch in kinds_by_step:
        assert len(batch) == 50 and np.bincount(batch) == pytest.approx(50 * shares, abs=1)
    batches = np.concatenate([encoder.sample_views(kinds, 50, step, seed=3) for step in range(14)])
    assert (np.bincount(batches[batches < 300]) <= 1).all()  # no person view twice within an epoch
    assert set(kinds[encoder.sample_views(kinds[:300], 50, 0, seed=3)]) == {0}  # missing kinds are left out


def test_mirroring_swaps_left_and_right_in_phrases_and_masks() -> None:
    phrases = ["looking at the far left", "looking up", "looking at the far right", "looking down left"]
    assert encoder.mirrored_phrases(phrases).tolist() == [2, 1, 0, -1]
    masks = np.array([[1, 0, 0, 0, 1, 1, 0, 0, 0]], bool)
    assert encoder.mirrored_masks(masks, 3).astype(int).tolist() == [[0, 0, 1, 1, 1, 0, 0, 0, 0]]


def test_patch_targets_peak_at_the_point() -> None:
    targets = encoder.patch_targets(np.array([[0.95, 0.05], [0.5, 0.5]], np.float32), 4)
    assert targets.shape == (2, 16) and targets.sum(1) == pytest.approx([1, 1])
    assert targets[0].argmax() == 3 and targets[1].reshape(4, 4)[1:3, 1:3] == pytest.approx(targets[1].max())


def test_gaze_logits_depend_on_the_head_mask() -> None:
    contrast = encoder.RegionTextModel(8, attributes=1, vocabulary=5)
    features = torch.randn(1, 6, 8)
    heads = torch.tensor([[True, False, False, False, False, False], [False, False, False, True, False, False]])
    logits = contrast.grounding(features.expand(2, 6, 8), heads)
    assert logits.shape == (2, 6) and not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_a_region_vector_ignores_patches_outside_its_mask() -> None:
    contrast = encoder.RegionTextModel(8, attributes=2, vocabulary=5)
    features, masks = torch.randn(1, 6, 8), torch.zeros(1, 2, 6, dtype=torch.bool)
    masks[0, 0, :2] = masks[0, 1, 1:] = True
    changed = features.clone()
    changed[0, 3:] = torch.randn(3, 8)
    before, after = contrast.regions(features, masks), contrast.regions(changed, masks)
    assert before.shape == (1, 2, 2, encoder.JOINT_DIM)
    assert torch.equal(before[0, 0], after[0, 0])
    assert not torch.allclose(before[0, 1], after[0, 1], atol=1e-3)
    assert torch.allclose(before.norm(dim=-1), torch.ones(1, 2, 2))


def test_a_region_of_one_patch_is_that_patch() -> None:
    contrast = encoder.RegionTextModel(8, attributes=3, vocabulary=5)
    features = torch.randn(1, 4, 8)
    masks = torch.tensor([[[False, False, True, False]]])
    expected = torch.nn.functional.normalize(contrast.region(features[0, 2]), dim=-1)
    for vector in contrast.regions(features, masks)[0, 0]:
        assert torch.allclose(vector, expected, atol=1e-6)


def test_a_phrase_vector_ignores_word_order() -> None:
    contrast = encoder.RegionTextModel(8, attributes=1, vocabulary=5)
    vectors = contrast.phrases(torch.tensor([1, 2, 2, 1, 3]), torch.tensor([0, 2, 4]))
    assert vectors.shape == (3, encoder.JOINT_DIM)
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6) and not torch.allclose(vectors[0], vectors[2], atol=1e-2)


def test_geometry_jitter_keeps_shape_and_original(region_views: RegionViews) -> None:
    before = region_views.views.copy()
    jittered = encoder.jitter_geometry(region_views.views[0], np.random.default_rng(2))
    assert jittered.shape == region_views.views[0].shape and jittered.dtype == np.uint8
    assert not np.array_equal(jittered, before[0]) and np.array_equal(region_views.views, before)
    even = np.full((8, 8, 3), 100, np.uint8)
    assert np.array_equal(encoder.jitter_geometry(even, np.random.default_rng(0)), even)


def test_colour_jitter_stays_in_the_range_of_an_image(region_views: RegionViews) -> None:
    config, views = TOY.model.encoder, torch.from_numpy(region_views.views)
    as_is = encoder.normalise_with_jitter(views, config, np.ones((6, 3)), np.zeros((6, 1)))
    assert torch.allclose(as_is, torch.from_numpy(normalise(region_views.views, config)), atol=1e-5)
    gain, offset = encoder.sample_color_jitter(6, np.random.default_rng(0))
    lit = encoder.normalise_with_jitter(views, config, gain, offset)
    low, high = (normalise(np.full((1, 48, 48, 3), v, np.uint8), config).min() for v in (0, 255))
    assert not torch.allclose(lit, as_is, atol=0.1) and low - 1e-5 <= lit.min() and lit.max() <= high + 1e-5


def test_the_encoder_learns_to_distinguish_two_kinds_of_images(
    words, region_views: RegionViews, tmp_path: Path
) -> None:
    module, history = encoder.pretrain_encoder(TOY, words, region_views, tmp_path)
    assert set(history[0]) == {"colour", "side", "gaze_target"}
    assert history[-1]["colour"] < 0.7 * history[0]["colour"]
    assert not module.training and not any(weight.requires_grad for weight in module.parameters())


def test_crops_take_the_sizes_in_turn_and_frames_keep_theirs(words, region_views: RegionViews, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    sizes: list[tuple[int, int]] = []  # views and their side, as the encoder sees them

    def recorded(*arguments: object) -> torch.nn.Module:
        module = build_encoder(*arguments)
        module.register_forward_pre_hook(lambda _, images: sizes.append((len(images[0]), images[0].shape[-1])))
        return module

    monkeypatch.setattr(encoder, "build_encoder", recorded)
    side, patch = TOY.model.encoder.image_size, TOY.model.encoder.patch_size
    steps = dataclasses.replace(TOY.encoder, steps=3, batch_size=6)
    config = dataclasses.replace(TOY, encoder=steps, encoder_crop_sizes=(side - patch, side, side - 2 * patch))
    encoder.pretrain_encoder(config, words, region_views, tmp_path)
    (crops, _), (frames, _), (every, _) = sizes[:3]
    assert crops + frames == every
    assert [size for _, size in sizes] == [side - patch, side, side, side - 2 * patch, side]


def test_a_resumed_encoder_equals_an_uninterrupted_one(words, region_views: RegionViews, tmp_path: Path) -> None:
    config = dataclasses.replace(TOY, encoder=dataclasses.replace(TOY.encoder, steps=3))
    uninterrupted, history = encoder.pretrain_encoder(config, words, region_views, tmp_path / "a")
    encoder.pretrain_encoder(config, words, region_views, tmp_path / "b", stop_after=2)
    resumed, again = encoder.pretrain_encoder(config, words, region_views, tmp_path / "b")
    assert again == history
    assert all(torch.equal(value, uninterrupted.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_scene_views_are_crops_and_a_frame_with_regions() -> None:
    generator = np.random.default_rng([0, 77, 1])
    image, annotation = render(sample_scene(generator, "train", "relation"), generator)
    scene_views = list(region_data._views(image, annotation, generator, 48, 4))
    assert all(view.shape == (48, 48, 3) and view.dtype == np.uint8 for _, view, _ in scene_views)
    *crops, (kind, _, regions) = scene_views
    assert kind == "frame" and {kind for kind, _, _ in crops} <= {"person", "face"}
    faces = [p for p in annotation.people if face_is_readable(p)]
    assert len(regions) == len(faces) + len(annotation.relations)
    for _, _, (whole, *parts) in crops:
        assert whole.mask.all() and not any(part.mask.all() for part in parts)
        assert all(len(part.phrases) == 1 and part.phrases.items() <= whole.phrases.items() for part in parts)
    for person, region in zip(faces, regions, strict=False):
        face = Box(*person.face)
        column, row = (int(v * 4) for v in (face.center[0] / annotation.width, face.center[1] / annotation.height))
        assert region.mask.reshape(4, 4)[row, column]
        assert "expression" not in region.phrases and "relation" not in region.phrases
    assert all(set(region.phrases) == {"domain", "relation"} for region in regions[len(faces) :])
