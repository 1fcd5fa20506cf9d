"""Vision graphs of every encoder: few operators, the modules' own tokens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch

from export.vision import VisionGraph, _attention, export_vision, likeness
from sf_ros.core import bundle as bundles
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder
from tests.model.test_encoders import SMALL


@pytest.mark.parametrize("name", SMALL)
def test_every_encoders_graph_gives_the_modules_tokens_and_computes_nothing_of_its_shapes(
    name: str, tmp_path: Path
) -> None:
    config = SMALL[name]
    torch.manual_seed(0)
    model = SimpleNamespace(
        config=SimpleNamespace(encoder=config),
        encoder=build_encoder(config).eval(),
        connector=Connector(config.dim, 24, 16, marks=True).eval(),
    )
    export_vision(model, tmp_path / bundles.VISION)  # type: ignore[arg-type]
    found = likeness(VisionGraph(model), tmp_path / bundles.VISION, config.image_size, pictures=3)  # type: ignore[arg-type]
    assert found["max_relative_error"] < 1e-5
    operators = Counter(node.op_type for node in onnx.load(tmp_path / bundles.VISION).graph.node)
    parts = config.parts or (config,)
    assert operators["Softmax"] == sum(part.depth for part in parts)  # one for each layer's attention
    assert operators["Shape"] <= len(parts), operators  # the number of pictures, for class tokens
    assert not operators["Erf"] and not operators["Tanh"]  # Gelu is one operator


@pytest.mark.parametrize("asked", [{"dropout": 0.1}, {"causal": True}, {"grouped": True}])
def test_attention_that_no_encoder_asks_for_is_refused(asked: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="without dropout, causal order, grouped heads"):
        _attention(None, None, None, **asked)
