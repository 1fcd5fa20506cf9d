"""The tiny parts' early life: words for every answer, regions that see their own patches, losses that fall."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.config import EncoderConfig, LlmConfig, ModelConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import normalise
from training.config import PRESETS, StageConfig, TrainConfig
from training.data.scenes.dataset import face_is_readable
from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene
from training.data.scenes.text import regions as drawn
from training.data.scenes.text.regions import RegionViews
from training.pretraining import encoder, llm, stages, tokenizer

CAPTIONS = [
    "A child is looking at the camera. An adult is showing an open palm.",
    "Two friends is standing close to each other. A couple is looking left.",
]
VOCABULARY = PRESETS["tiny"].model.llm.vocabulary
TOY = TrainConfig(
    name="toy",
    model=ModelConfig(
        encoder=EncoderConfig(image_size=48, dim=32, depth=1, heads=2),
        llm=LlmConfig(dim=32, depth=1, heads=4, kv_heads=2, mlp=64, vocabulary=VOCABULARY),
    ),
    encoder=StageConfig(steps=12, batch_size=6, learning_rate=3e-3, warmup=2),
    llm=StageConfig(steps=8, batch_size=4, learning_rate=1e-2, warmup=2),
    joint=StageConfig(steps=1),
    precision="no",
    compile=False,
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory):
    return tokenizer.train_tokenizer(CAPTIONS, VOCABULARY, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def region_views() -> RegionViews:
    """Six views of two kinds: red ones, of which one thing is said, and blue ones."""
    views = np.random.default_rng(0).integers(0, 40, (6, 48, 48, 3), np.uint8)
    views[0::2, ..., 0] += 200
    views[1::2, ..., 2] += 200
    kinds = np.array([0, 0, 1, 1, 2, 2], np.uint8)  # two bodies, two faces, two frames
    masks = np.ones((6, 16), bool)
    masks[4:, 3] = False
    looked_at = np.full((6, 2), np.nan, np.float32)
    looked_at[4] = 0.9, 0.1
    said = np.array([[0, 0], [1, -1], [0, -1], [1, 1], [0, 0], [1, 1]], np.int16)
    phrases = (["a red wall", "a blue wall"], ["on the left", "on the right"])
    return RegionViews(views, kinds, np.arange(6), masks, said, looked_at, ("colour", "side"), phrases, tuple(CAPTIONS))


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if spec.kind == "label"])
def test_every_answer_is_one_token_of_its_own_and_every_prompt_survives(words, task: str) -> None:
    spec = TASKS[task]
    ids = [words.encode(answer, add_special_tokens=False) for answer in spec.answers]
    assert all(len(tokens) == 1 for tokens in ids) and len({tokens[0] for tokens in ids}) == len(spec.answers)
    assert words.decode(words.encode(spec.prompt, add_special_tokens=False)) == spec.prompt
    for answer in spec.answers:  # behind its prompt, as it is trained, an answer is the same one token
        both = words.encode(spec.prompt + answer, add_special_tokens=False)
        assert both == words.encode(spec.prompt, add_special_tokens=False) + words.encode(answer)


def test_words_never_heard_of_survive_too(words) -> None:
    for text in [*CAPTIONS, "Ünïcode — 42 kg\n"]:
        assert words.decode(words.encode(text, add_special_tokens=False)) == text
    assert len(words) <= VOCABULARY and words.eos_token == "<end>"


def test_a_tokenizer_is_read_back_as_it_was_trained(words, tmp_path: Path) -> None:
    words.save_pretrained(tmp_path)
    assert tokenizer.load_tokenizer(tmp_path).encode(CAPTIONS[0]) == words.encode(CAPTIONS[0])


def test_a_stream_holds_every_caption_with_ends_and_is_the_same_every_time(words) -> None:
    stream = llm.text_stream(words, CAPTIONS, seed=1)
    assert stream.dtype == torch.long and len(stream) > 8 * llm.LENGTH
    assert torch.equal(stream, llm.text_stream(words, CAPTIONS, seed=1))
    pieces = {piece.strip() for piece in words.decode(stream).split("<end>")} - {""}
    allowed = {text.strip() for text in tokenizer.prompts_with_answers()}
    assert set(CAPTIONS) < pieces and pieces - set(CAPTIONS) <= allowed
    assert not torch.equal(stream, llm.text_stream(words, CAPTIONS, seed=2))


def test_a_body_learns_to_read(words, tmp_path: Path) -> None:
    part, history = llm.pretrain_llm(TOY, words, CAPTIONS, tmp_path)
    losses = [entry["next_token"] for entry in history]
    assert losses[0] == pytest.approx(np.log(VOCABULARY), abs=0.3)  # it starts knowing nothing
    assert losses[-1] < losses[0] - 1 and not part.training


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order() -> None:
    slices = [encoder.epoch_batch(12, 4, step, seed=1) for step in range(6)]
    for epoch in (slices[:3], slices[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(12))
        assert all((np.diff(part) > 0).all() for part in epoch)  # ascending, as regions_of wants
    assert any(not np.array_equal(a, b) for a, b in zip(slices[:3], slices[3:], strict=True))
    assert np.array_equal(slices[4], encoder.epoch_batch(12, 4, 4, seed=1))


def test_fewer_pictures_than_a_batch_are_all_shown() -> None:
    assert encoder.epoch_batch(3, 8, step=5, seed=0).tolist() == [0, 1, 2]


def test_regions_of_a_batch_lie_side_by_side_in_their_views() -> None:
    masks = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    places, table = encoder.pad_regions(np.array([0, 0, 2, 2]), masks, 3)
    assert places.tolist() == [0, 1, 0, 1]
    assert table.astype(int).tolist() == [
        [[1, 0, 0], [0, 1, 0]],
        [[1, 1, 1], [1, 1, 1]],  # the view without regions
        [[0, 0, 1], [1, 1, 0]],
    ]


def test_regions_of_chosen_views_name_their_place_among_the_chosen() -> None:
    owners = np.array([0, 0, 1, 2, 2, 2, 4])
    views, kinds, masks = np.zeros((5, 1, 1, 3)), np.zeros(5), np.ones((7, 1), bool)
    made = RegionViews(views, kinds, owners, masks, np.zeros((7, 0)), np.zeros((7, 2)), (), (), ())
    rows, places = made.regions_of(np.array([0, 2, 4]))
    assert rows.tolist() == [0, 1, 3, 4, 5, 6] and places.tolist() == [0, 0, 1, 1, 1, 2]


def test_views_of_bodies_and_faces_are_crops(region_views: RegionViews) -> None:
    assert region_views.crops.tolist() == [True, True, True, True, False, False]


def test_every_phrase_counts_the_same_however_rare(region_views: RegionViews) -> None:
    colour, side = region_views.balance
    assert colour == pytest.approx([1, 1]) and side == pytest.approx([1, 1])


def test_a_batch_has_every_kind_of_view_in_its_share() -> None:
    kinds = np.repeat(np.array([0, 1, 2], np.uint8), (300, 1000, 200))
    drawn_kinds = [kinds[encoder.sample_views(kinds, 50, step, seed=3)] for step in range(20)]
    shares = np.array(list(drawn.VIEW_SHARES.values()))
    for one in drawn_kinds:
        assert len(one) == 50 and np.bincount(one) == pytest.approx(50 * shares, abs=1)
    people = np.concatenate([encoder.sample_views(kinds, 50, step, seed=3) for step in range(14)])
    assert (np.bincount(people[people < 300]) <= 1).all()  # no body twice within an epoch of bodies
    assert set(kinds[encoder.sample_views(kinds[:300], 50, 0, seed=3)]) == {0}  # kinds that are missing leave no gap


def test_a_mirrored_picture_swaps_left_and_right_in_words_and_patches() -> None:
    phrases = ["looking at the far left", "looking up", "looking at the far right", "looking down left"]
    assert encoder.mirrored_phrases(phrases).tolist() == [2, 1, 0, -1]
    masks = np.array([[1, 0, 0, 0, 1, 1, 0, 0, 0]], bool)
    assert encoder.mirrored_masks(masks, 3).astype(int).tolist() == [[0, 0, 1, 1, 1, 0, 0, 0, 0]]


def test_a_target_is_most_likely_in_the_patch_that_holds_it() -> None:
    targets = encoder.patch_targets(np.array([[0.95, 0.05], [0.5, 0.5]], np.float32), 4)
    assert targets.shape == (2, 16) and targets.sum(1) == pytest.approx([1, 1])
    assert targets[0].argmax() == 3 and targets[1].reshape(4, 4)[1:3, 1:3] == pytest.approx(targets[1].max())


def test_what_a_head_looks_at_depends_on_the_patches_of_that_head() -> None:
    contrast = encoder.RegionTextModel(8, attributes=1, vocabulary=5)
    features = torch.randn(1, 6, 8)
    heads = torch.tensor([[True, False, False, False, False, False], [False, False, False, True, False, False]])
    logits = contrast.grounding(features.expand(2, 6, 8), heads)
    assert logits.shape == (2, 6) and not torch.allclose(logits[0], logits[1], atol=1e-3)


def test_a_region_depends_on_the_patches_of_its_mask_only() -> None:
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


def test_a_region_of_one_patch_is_that_patch_for_every_attribute() -> None:
    contrast = encoder.RegionTextModel(8, attributes=3, vocabulary=5)
    features = torch.randn(1, 4, 8)
    masks = torch.tensor([[[False, False, True, False]]])
    expected = torch.nn.functional.normalize(contrast.region(features[0, 2]), dim=-1)
    for vector in contrast.regions(features, masks)[0, 0]:
        assert torch.allclose(vector, expected, atol=1e-6)


def test_a_phrase_is_the_mean_of_its_words_in_any_order() -> None:
    contrast = encoder.RegionTextModel(8, attributes=1, vocabulary=5)
    spoken = contrast.phrases(torch.tensor([1, 2, 2, 1, 3]), torch.tensor([0, 2, 4]))
    assert spoken.shape == (3, encoder.JOINT_DIM)
    assert torch.allclose(spoken[0], spoken[1], atol=1e-6) and not torch.allclose(spoken[0], spoken[2], atol=1e-2)


def test_jitter_keeps_shape_type_and_the_original(region_views: RegionViews) -> None:
    before = region_views.views.copy()
    place = encoder.jitter_geometry(region_views.views[0], np.random.default_rng(2))
    assert place.shape == region_views.views[0].shape and place.dtype == np.uint8
    assert not np.array_equal(place, before[0]) and np.array_equal(region_views.views, before)
    even = np.full((8, 8, 3), 100, np.uint8)
    assert np.array_equal(encoder.jitter_geometry(even, np.random.default_rng(0)), even)


def test_light_changes_colours_within_the_range_of_a_picture(region_views: RegionViews) -> None:
    config, views = TOY.model.encoder, torch.from_numpy(region_views.views)
    as_is = encoder.normalise_with_jitter(views, config, np.ones((6, 3)), np.zeros((6, 1)))
    assert torch.allclose(as_is, torch.from_numpy(normalise(region_views.views, config)), atol=1e-5)
    gain, offset = encoder.sample_color_jitter(6, np.random.default_rng(0))
    lit = encoder.normalise_with_jitter(views, config, gain, offset)
    low, high = (normalise(np.full((1, 48, 48, 3), v, np.uint8), config).min() for v in (0, 255))
    assert not torch.allclose(lit, as_is, atol=0.1) and low - 1e-5 <= lit.min() and lit.max() <= high + 1e-5


def test_an_encoder_learns_to_tell_two_kinds_of_pictures_apart(
    words, region_views: RegionViews, tmp_path: Path
) -> None:
    part, history = encoder.pretrain_encoder(TOY, words, region_views, tmp_path)
    assert set(history[0]) == {"colour", "side", "looked_at"}
    assert history[-1]["colour"] < 0.7 * history[0]["colour"]
    assert not part.training and not any(weight.requires_grad for weight in part.parameters())


def test_an_encoder_that_was_stopped_and_resumed_equals_an_unbroken_one(
    words, region_views: RegionViews, tmp_path: Path
) -> None:
    config = dataclasses.replace(TOY, encoder=dataclasses.replace(TOY.encoder, steps=3))
    unbroken, history = encoder.pretrain_encoder(config, words, region_views, tmp_path / "a")
    encoder.pretrain_encoder(config, words, region_views, tmp_path / "b", stop_after=2)
    resumed, again = encoder.pretrain_encoder(config, words, region_views, tmp_path / "b")
    assert again == history
    assert all(torch.equal(value, unbroken.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_a_scene_gives_crops_and_a_frame_whose_regions_are_its_heads_and_pairs() -> None:
    generator = np.random.default_rng([0, 77, 1])
    image, annotation = render(sample_scene(generator, "train", "relation"), generator)
    made = list(drawn._views(image, annotation, generator, 48, 4))
    assert all(picture.shape == (48, 48, 3) and picture.dtype == np.uint8 for _, picture, _ in made)
    *crops, (kind, _, regions) = made
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


def test_how_often_each_kind_of_scene_is_drawn_adds_up_to_always() -> None:
    assert sum(drawn.FOCUS_SHARES.values()) == pytest.approx(1)


def test_a_preset_on_published_weights_is_not_pre_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset 'paper' has neither published weights nor stages of pre-training"):
        stages.pretrained_parts(PRESETS["paper"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
