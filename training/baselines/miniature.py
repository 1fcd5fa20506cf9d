"""Random VLMs of toy size in the published file layouts, for tests and for studies without published weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from training.baselines.vlm import VlmConfig
from training.pretraining.tokenizer import train_tokenizer

SIZE = 56  # px; 4 x 4 patches, 4 visual tokens
SMALL = VlmConfig(image_size=SIZE, lora_rank=4, lora_alpha=8)
TEXT = {
    "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 4096,
}  # fmt: skip
IM_END, PAD = "<|im_end|>", "<|endoftext|>"
NAMED = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<video>")
MOLMO = ("<im_start>", "<im_end>", "<im_patch>", "<im_col>")


def chat_template(image: str) -> str:
    """A ChatML template with `image` in place of each image, like that of the instruction-tuned models."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def tokenizer(folder: Path, vocabulary: int = 900) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer trained on the prompts and letters, with the models' special tokens."""
    plain = train_tokenizer([], vocabulary, folder)
    plain.add_special_tokens(
        {
            "eos_token": IM_END, "pad_token": PAD,
            "extra_special_tokens": ["<|im_start|>", *NAMED.values(), *VISION, *MOLMO],
        }
    )  # fmt: skip
    return plain


def named(plain: PreTrainedTokenizerFast, folder: Path) -> PreTrainedTokenizerFast:
    """The same tokenizer with InternVL's names for its image tokens."""
    plain.save_pretrained(folder)
    names = {**NAMED, "video_token": "<video>"}
    return PreTrainedTokenizerFast.from_pretrained(folder, extra_special_tokens=names)


def qwen2_vl(folder: Path, vocabulary: int = 900) -> Path:
    """Write a Qwen2-VL folder."""
    tokens = tokenizer(folder, vocabulary)
    ids = {name: tokens.convert_tokens_to_ids(token) for name, token in (
        ("vision_start_token_id", VISION[0]), ("vision_end_token_id", VISION[1]), ("image_token_id", VISION[2]),
        ("video_token_id", VISION[3]),
    )}  # fmt: skip
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(text_config={**TEXT, "rope_parameters": rope}, vision_config=vision, **ids)
    config.tie_word_embeddings = True
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(), tokens, Qwen2VLVideoProcessor(),
        chat_template=chat_template("<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)  # fmt: skip
    return _saved(Qwen2VLForConditionalGeneration, config, folder)


def internvl(folder: Path) -> Path:
    """Write an InternVL3 folder in the layout of transformers."""
    tokens = named(tokenizer(folder), folder)
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "image_size": [SIZE, SIZE], "attention_bias": True,
    }  # fmt: skip
    config = InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2"}, vision_config=vision, image_seq_length=4,
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": SIZE, "width": SIZE}, crop_to_patches=True), tokens,
        InternVLVideoProcessor(), image_seq_length=4, chat_template=chat_template("<IMG_CONTEXT>\n"),
    ).save_pretrained(folder)  # fmt: skip
    return _saved(InternVLForConditionalGeneration, config, folder)


def _saved(kind: type, config: object, folder: Path) -> Path:
    torch.manual_seed(4)
    model = kind(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:  # answers depend on every part, and a token can be almost certain
                weight.mul_(30.0 if "embed_tokens" in name else 6.0)
    model.save_pretrained(folder)
    return folder


def sail_vl(folder: Path, *, tied: bool = True) -> dict[str, torch.Tensor]:
    """Write a SAIL-VL folder in the published layout (two shards); returns its tensors."""
    tokenizer(folder).save_pretrained(folder)
    config = {
        "architectures": ["SailVLModel"], "model_type": "internvl_chat", "template": "sailvl-chat",
        "downsample_ratio": 0.5, "force_image_size": SIZE, "ps_version": "v2", "select_layer": -1,
        "llm_config": {
            **TEXT, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": tied,
        },
        "vision_config": {
            "model_type": "aimv2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": SIZE, "patch_size": 14, "rms_norm_eps": 1e-5,
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(4)
    weights = {
        "vision_model.preprocessor.patchifier.proj.weight": random(32, 3, 14, 14),
        "vision_model.preprocessor.patchifier.proj.bias": random(32),
        "vision_model.preprocessor.patchifier.norm.weight": 1 + random(32),
        "vision_model.preprocessor.pos_embed": random(1, 16, 32),
        "vision_model.trunk.post_trunk_norm.weight": 1 + random(32),
        "mlp1.0.weight": 1 + random(128), "mlp1.0.bias": random(128),
        "mlp1.1.weight": random(32, 128), "mlp1.1.bias": random(32),
        "mlp1.3.weight": random(32, 32), "mlp1.3.bias": random(32),
    }  # fmt: skip
    for i in range(2):
        block = f"vision_model.trunk.blocks.{i}."
        weights |= {
            f"{block}attn.qkv.weight": random(96, 32), f"{block}attn.proj.weight": random(32, 32),
            f"{block}mlp.fc1.weight": random(48, 32), f"{block}mlp.fc2.weight": random(32, 48),
            f"{block}mlp.fc3.weight": random(48, 32),
            f"{block}norm_1.weight": 1 + random(32), f"{block}norm_2.weight": 1 + random(32),
        }  # fmt: skip
    llm = Qwen2ForCausalLM(Qwen2Config(**TEXT, tie_word_embeddings=tied))
    words = ("embed_tokens.weight", "lm_head.weight")
    for name, value in llm.state_dict().items():
        scale = 0.0 if value.ndim == 1 else 10.0 if name.endswith(words) else 2.0
        if not (tied and name == "lm_head.weight"):
            weights[f"language_model.{name}"] = value + scale * random(*value.shape)
    return _sharded(weights, folder)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape) * 0.1


def _sharded(weights: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    names = sorted(weights)
    shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(shards.values())):
        save_file({name: weights[name].contiguous() for name in names if shards[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return weights


def molmoe(folder: Path, rope: str = "cockatoo") -> dict[str, torch.Tensor]:
    """Write a MolmoE folder in the published layout (one torch file); returns its tensors."""
    tokenizer(folder).save_pretrained(folder)
    config = {
        "architectures": ["MolmoForCausalLM"], "model_type": "molmo", "d_model": 32, "n_heads": 2, "n_layers": 2,
        "mlp_ratio": 1, "mlp_hidden_size": 48, "embedding_size": 1024, "additional_vocab_size": 8,
        "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_impl": rope, "moe_num_experts": 4, "moe_top_k": 2,
        "vit_layers": [-1, -3], "image_pooling_2d": "attention_meanq", "image_projector": "mlp",
        "use_cls_feature": False, "include_bias": False, "weight_tying": False,
        "vision_backbone": {
            "image_emb_dim": 32, "image_mlp_dim": 64, "image_num_layers": 3, "image_num_heads": 2,
            "image_default_input_size": [SIZE, SIZE], "image_patch_size": 14, "image_norm_eps": 1e-5,
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(4)
    vit, blocks = "model.vision_backbone.image_vit.", "model.transformer.blocks."
    weights = {
        f"{vit}class_embedding": random(32), f"{vit}positional_embedding": random(17, 32),
        f"{vit}patch_embedding.weight": random(32, 14 * 14 * 3),
        f"{vit}pre_ln.weight": 1 + random(32), f"{vit}pre_ln.bias": random(32),
        "model.vision_backbone.pad_embed": random(2, 64),
        "model.transformer.wte.embedding": 8 * random(1024, 32), "model.transformer.wte.new_embedding": random(8, 32),
        "model.transformer.ln_f.weight": 1 + random(32), "lm_head.weight": 8 * random(1024, 32),
    }  # fmt: skip
    linears = {f"model.vision_backbone.image_pooling_2d.w{kind}": (32, 64) for kind in "qkv"}
    linears["model.vision_backbone.image_pooling_2d.wo"] = (32, 32)
    for i in range(3):
        block = f"{vit}transformer.resblocks.{i}."
        linears |= {f"{block}attention.w{kind}": (32, 32) for kind in "qkvo"}
        linears |= {f"{block}feed_forward.w1": (64, 32), f"{block}feed_forward.w2": (32, 64)}
        for norm in ("attention_norm", "ffn_norm"):
            weights |= {f"{block}{norm}.weight": 1 + random(32), f"{block}{norm}.bias": random(32)}
    for name, shape in linears.items():
        weights |= {f"{name}.weight": 2 * random(*shape), f"{name}.bias": random(shape[0])}
    for name, shape in {"w1": (24, 32), "w2": (32, 24), "w3": (24, 32)}.items():
        weights[f"model.vision_backbone.image_projector.{name}.weight"] = 3 * random(*shape)
    for i in range(2):
        weights |= {
            f"{blocks}{i}.attn.att_proj.weight": 3 * random(96, 32),
            f"{blocks}{i}.attn.attn_out.weight": random(32, 32),
            f"{blocks}{i}.attn.attn_norm.weight": 1 + random(32), f"{blocks}{i}.attn.q_norm.weight": 1 + random(32),
            f"{blocks}{i}.attn.k_norm.weight": 1 + random(32), f"{blocks}{i}.mlp.ff_norm.weight": 1 + random(32),
            f"{blocks}{i}.mlp.gate.weight": 3 * random(4, 32),
        }  # fmt: skip
        for j in range(4):
            for kind, shape in {"gate": (24, 32), "up": (24, 32), "down": (32, 24)}.items():
                weights[f"{blocks}{i}.mlp.experts.{j}.{kind}_proj.weight"] = 3 * random(*shape)
    torch.save(weights, folder / "pytorch_model.bin")
    return weights
