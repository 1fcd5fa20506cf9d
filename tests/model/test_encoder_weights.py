"""Every published format of weights is loaded strictly."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from sf_ros.model.encoders import ENCODERS, WeightsError, build_encoder, load_weights  # noqa: E402
from tests.model.published import (  # noqa: E402
    FORMATS,
    PATCH,
    SIZE,
    WIDTH,
    Published,
    clip,
    clip_config,
    dfn,
    dinov2,
    shaken,
    small,
)
from tests.model.tensor_files import save  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
# A key of the real file, to check that the miniature has the published format.
HELD = {
    "clip": "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    "clip_bin": "vision_model.embeddings.position_ids",
    "dfn": "visual.transformer.resblocks.0.attn.in_proj_weight",
    "molmoe": "model.vision_backbone.image_vit.transformer.resblocks.0.attention.wq.weight",
    "dinov2": "encoder.layer.0.attention.attention.query.weight",
    "aimv2": "encoder.layers.0.attention.q_proj.weight",
    "sailvit": "trunk.blocks.0.attn.qkv.weight",
    "sail_vl": "vision_model.trunk.blocks.0.mlp.fc3.weight",
    "internvit": "encoder.layers.0.attn.qkv.bias",
    "internvl3": "vision_tower.encoder.layer.0.attention.projection_layer.weight",
    "qwen2_vl": "visual.blocks.0.attn.qkv.weight",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("published")
    return {name: write(root / name) for name, write in FORMATS.items()}


def tensors_of(source: Path) -> dict[str, torch.Tensor]:
    """All tensors of a miniature, whatever its format."""
    if source.suffix == ".bin":
        return torch.load(source, weights_only=True)
    return {key: value for path in sorted(source.glob("*.safetensors")) for key, value in load_file(path).items()}


def rewritten(model: Published, tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    """The same miniature with other tensors, in one file."""
    folder.mkdir()
    if model.source.suffix == ".bin":
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder / "pytorch_model.bin"
    save(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", FORMATS)
@torch.no_grad()
def test_a_loaded_encoder_computes_what_the_published_model_does(name: str, published: dict[str, Published]) -> None:
    model = published[name]
    assert HELD[name] in tensors_of(model.source)
    encoder = load_weights(build_encoder(model.config), model.source)
    images = torch.randn(3, 3, SIZE, SIZE)
    expected = model.reference(images)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    assert torch.allclose(encoder(images), expected, atol=5e-5)
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("name", ["internvl3", "qwen2_vl"])
def test_a_vlm_with_another_key_prefix_is_read_too(name: str, published: dict[str, Published], tmp_path: Path) -> None:
    model = published[name]
    again = {f"model.{key}": value for key, value in tensors_of(model.source).items()}
    first = load_weights(build_encoder(model.config), model.source).state_dict()
    second = load_weights(build_encoder(model.config), rewritten(model, again, tmp_path / "again")).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_tensor_is_named(name: str, published: dict[str, Published], tmp_path: Path) -> None:
    tensors = tensors_of(published[name].source)
    del tensors[HELD[name] if name != "clip_bin" else HELD["clip"]]
    with pytest.raises(WeightsError, match=r"not the weights of this .* missing: \S*(proj|qkv)\S*\.(weight|bias)"):
        load_weights(build_encoder(published[name].config), rewritten(published[name], tensors, tmp_path / "less"))


@pytest.mark.parametrize("name", FORMATS)
def test_an_unexpected_tensor_is_named(name: str, published: dict[str, Published], tmp_path: Path) -> None:
    tensors = tensors_of(published[name].source)
    key = (HELD[name] if name != "clip_bin" else HELD["clip"]).replace(".0.", ".3.")  # a fourth layer
    tensors[key] = tensors[key.replace(".3.", ".0.")].clone()
    with pytest.raises(WeightsError, match=r"unexpected: \S*\.[3]\."):
        load_weights(build_encoder(published[name].config), rewritten(published[name], tensors, tmp_path / "more"))


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_another_size_are_refused(name: str, published: dict[str, Published]) -> None:
    heads = 4 if name == "dfn" else 2  # what the configuration beside the weights says of them must stay true
    config = dataclasses.replace(published[name].config, dim=2 * WIDTH, heads=heads)
    with pytest.raises(WeightsError, match=r"of another shape: \S+ \(.*32.*\) instead of \(.*64.*\)"):
        load_weights(build_encoder(config), published[name].source)


def test_weights_of_another_model_are_refused(published: dict[str, Published]) -> None:
    with pytest.raises(WeightsError, match=r"not weights of clip-vit-l-14-336\. Expected a tensor 'vision_model\.emb"):
        load_weights(build_encoder(small("clip-vit-l-14-336")), published["qwen2_vl"].source)


def test_the_published_configuration_must_agree(published: dict[str, Published]) -> None:
    with pytest.raises(WeightsError, match="num_attention_heads is 2, expected 4"):
        load_weights(build_encoder(small("clip-vit-l-14-336", heads=4)), published["clip"].source)
    with pytest.raises(WeightsError, match="num_heads is 2, expected 4"):
        load_weights(build_encoder(small("qwen2-vl-2b", heads=4)), published["qwen2_vl"].source)


def test_a_clip_trained_with_another_activation_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPModel

    config = clip_config()
    config.vision_config.hidden_act = "gelu"
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    with pytest.raises(WeightsError, match=r"hidden_act is 'gelu', expected 'quick_gelu'"):
        load_weights(build_encoder(small("clip-vit-l-14-336")), tmp_path / "clip")
    model = dfn(tmp_path / "dfn")
    path = tmp_path / "dfn" / "open_clip_config.json"
    path.write_text(path.read_text().replace('"quick_gelu": true', '"quick_gelu": false'))
    with pytest.raises(WeightsError, match="quick_gelu is False, expected True"):
        load_weights(build_encoder(model.config), model.source)


@pytest.mark.parametrize("name", ["clip", "dinov2", "aimv2"])
@torch.no_grad()
def test_positions_of_another_size_are_resampled_on_request(name: str, published: dict[str, Published]) -> None:
    model = published[name]
    config = dataclasses.replace(model.config, image_size=6 * PATCH)
    with pytest.raises(WeightsError, match=r"position_embedding\S* \(.*1[67].*\) instead of \(.*3[67].*\)"):
        load_weights(build_encoder(config), model.source)
    encoder = load_weights(build_encoder(dataclasses.replace(config, native_size=SIZE)), model.source)
    images = torch.randn(2, 3, 6 * PATCH, 6 * PATCH)
    assert encoder(images).shape == (2, 36, WIDTH)
    if name == "dinov2":  # transformers resamples at every image
        assert torch.allclose(encoder(images), model.reference(images), atol=1e-5)
    if name == "clip":
        from transformers import CLIPModel

        tower = CLIPModel.from_pretrained(model.source).vision_model
        expected = tower(pixel_values=images, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        assert torch.allclose(encoder(images), expected, atol=1e-5)


def test_a_position_table_of_a_third_size_is_refused(tmp_path: Path) -> None:
    model = dinov2(tmp_path / "dinov2", size=5 * PATCH)
    config = dataclasses.replace(model.config, image_size=6 * PATCH, native_size=SIZE)
    with pytest.raises(WeightsError, match=r"position_embeddings \(1, 26, 32\) instead of \(1, 37, 32\)"):
        load_weights(build_encoder(config), model.source)


@torch.no_grad()
def test_side_by_side_encoders_load_from_one_source_each(published: dict[str, Published]) -> None:
    parts = (published["clip"].config, published["dinov2"].config)
    config = dataclasses.replace(ENCODERS["clip+dinov2"], image_size=SIZE, dim=2 * WIDTH, parts=parts)
    encoder = build_encoder(config)
    with pytest.raises(WeightsError, match=r"takes 2 sources of weights, one per part; got 1"):
        load_weights(encoder, published["clip"].source)
    load_weights(encoder, [published["clip"].source, published["dinov2"].source])
    images = torch.randn(2, 3, SIZE, SIZE)  # normalised as for CLIP, which is how the whole encoder takes them
    scale, shift = torch.tensor(parts[1].std).view(3, 1, 1), torch.tensor(parts[1].mean).view(3, 1, 1)
    pixels = images * torch.tensor(config.std).view(3, 1, 1) + torch.tensor(config.mean).view(3, 1, 1)
    expected = [published["clip"].reference(images), published["dinov2"].reference((pixels - shift) / scale)]
    assert torch.allclose(encoder(images), torch.cat(expected, dim=-1), atol=1e-4)


@torch.no_grad()
def test_open_clips_own_model_computes_the_same(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": SIZE, "layers": 3, "width": WIDTH, "head_width": 16, "patch_size": PATCH}
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    model = shaken(open_clip.CLIP(8, vision, text, quick_gelu=True))
    save(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = load_weights(build_encoder(small("dfn-vit-h-14-378")), tmp_path)
    images = torch.randn(2, 3, SIZE, SIZE)
    out = model.visual.forward_intermediates(images, indices=1, normalize_intermediates=False, output_fmt="NLC")
    assert torch.allclose(encoder(images), out["image_intermediates"][-1], atol=1e-5)


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"no such model in the Hugging Face cache\. Get it with: hf download facebook/"
    ):
        load_weights(build_encoder(small("dinov2-l-14")))
    with pytest.raises(WeightsError, match="nowhere/at/all: no such file or folder"):
        load_weights(build_encoder(small("dinov2-l-14")), "nowhere/at/all")
    with pytest.raises(WeightsError, match="no such file or folder"):
        load_weights(build_encoder(small("dinov2-l-14")), tmp_path / "nothing")


@torch.no_grad()
def test_a_hub_id_is_read_from_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--facebook--dinov2-large"
    model = dinov2(place / "snapshots" / ("1" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1" * 40)
    images = torch.randn(1, 3, SIZE, SIZE)
    expected = model.reference(images)
    for source in (None, "facebook/dinov2-large"):
        assert torch.allclose(load_weights(build_encoder(model.config), source)(images), expected, atol=1e-5)


def test_a_pickle_is_read_only_when_it_is_named(published: dict[str, Published]) -> None:
    model = published["molmoe"]
    with pytest.raises(
        WeightsError,
        match=r"no safetensors here, only pytorch_model.bin. A pickle is read only when named itself: \S+bin",
    ):
        load_weights(build_encoder(model.config), model.source.parent)


def test_no_code_in_a_pickle_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"visual.conv1.weight": Trap()}, tmp_path / "model.bin")
    with pytest.raises(WeightsError, match="damaged, or not a file of weights"):
        load_weights(build_encoder(small("dfn-vit-h-14-378")), tmp_path / "model.bin")
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_incomplete_files_are_named(published: dict[str, Published], tmp_path: Path) -> None:
    encoder = build_encoder(small("sail-vl-1d5-2b"))
    copy = shutil.copytree(published["sail_vl"].source, tmp_path / "copy")
    shard = copy / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors: damaged"):
        load_weights(encoder, copy)
    shard.unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors: missing; it holds 'vision_model"):
        load_weights(encoder, copy)
    (copy / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"index\.json: damaged"):
        load_weights(encoder, copy)
    (copy / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"config\.json: not a model's configuration"):
        load_weights(encoder, copy)


def test_repeated_or_indivisible_tensors_are_named(published: dict[str, Published], tmp_path: Path) -> None:
    tensors = tensors_of(published["dinov2"].source)
    tensors["encoder.layer.0.attention.q_proj.weight"] = tensors[HELD["dinov2"]].clone()
    with pytest.raises(WeightsError, match=r"unexpected: encoder\.layer\.0\.attention\.\S+\.$"):
        load_weights(
            build_encoder(published["dinov2"].config), rewritten(published["dinov2"], tensors, tmp_path / "twice")
        )
    tensors = tensors_of(published["molmoe"].source)
    key = "model.vision_backbone.image_vit.patch_embedding.weight"
    tensors[key] = tensors[key][:, :-1]
    with pytest.raises(WeightsError, match=rf"'{key}' has the shape \(32, 587\), which does not fit"):
        load_weights(
            build_encoder(published["molmoe"].config), rewritten(published["molmoe"], tensors, tmp_path / "odd")
        )


def test_a_folder_without_weights_or_with_several_is_refused(tmp_path: Path) -> None:
    encoder = build_encoder(small("clip-vit-l-14-336"))
    (tmp_path / "readme.md").write_text("nothing here")
    with pytest.raises(WeightsError, match=r"no weights here; expected \*\.safetensors\. Found: readme\.md"):
        load_weights(encoder, tmp_path)
    for name in ("a", "b"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(WeightsError, match=r"more than one file of weights \(a\.safetensors, b\.safetensors\)"):
        load_weights(encoder, tmp_path)
    with pytest.raises(WeightsError, match="not weights of clip-vit-l-14-336"):
        load_weights(encoder, tmp_path / "a.safetensors")


def test_half_precision_files_fill_a_float32_encoder(published: dict[str, Published]) -> None:
    source = published["sail_vl"].source
    with safe_open(source / "model-00001-of-00002.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    encoder = load_weights(build_encoder(published["sail_vl"].config), source)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_the_tiny_encoder_has_no_published_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'TinyEncoder' has no published weights"):
        load_weights(build_encoder(ENCODERS["tiny"]), tmp_path)


def test_the_clip_miniature_holds_more_than_the_tower(tmp_path: Path) -> None:
    clip(tmp_path / "clip")
    keys = load_file(tmp_path / "clip" / "model.safetensors").keys()
    assert {key.split(".")[0] for key in keys} >= {"vision_model", "text_model", "logit_scale"}
    assert json.loads((tmp_path / "clip" / "config.json").read_text())["vision_config"]["hidden_size"] == WIDTH
