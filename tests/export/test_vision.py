"""Vision graphs of every encoder: few operators, and the modules' tokens."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import export.vision as vision
from export.vision import GAP, PaddedLinear, _attention, export_vision, fidelity
from sf_ros.core import bundle as bundles
from sf_ros.model.connector import Connector
from sf_ros.model.encoders import build_encoder
from tests.model.test_encoders import SMALL


# 1 pads every layer; ALIASED pads none of these small ones.
@pytest.mark.parametrize(
    ("name", "aliased"), [*((name, 1) for name in SMALL), ("tiny", vision.ALIASED), ("clip+dinov2", vision.ALIASED)]
)
def test_graph_gives_the_modules_tokens_in_few_operators(
    name: str, aliased: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "ALIASED", aliased)
    config = SMALL[name]
    torch.manual_seed(0)
    model = SimpleNamespace(
        config=SimpleNamespace(encoder=config, shared_prefix=False),
        encoder=build_encoder(config).eval(),
        connector=Connector(config.dim, 24, 16, marks=True).eval(),
    )
    export_vision(model, tmp_path / bundles.VISION)  # type: ignore[arg-type]
    agreement = fidelity(model, tmp_path / bundles.VISION, count=3)  # type: ignore[arg-type]
    assert agreement["max_relative_error"] < 1e-5
    operators = Counter(node.op_type for node in onnx.load(tmp_path / bundles.VISION).graph.node)
    parts = config.parts or (config,)
    assert operators["Softmax"] == sum(part.depth for part in parts)  # one for each layer's attention
    assert operators["Shape"] <= len(parts), operators  # the batch size, for class tokens
    assert not operators["Erf"] and not operators["Tanh"]  # Gelu is one operator
    assert bool(operators["Pad"]) == (aliased == 1)
    assert not any(isinstance(layer, PaddedLinear) for layer in model.encoder.modules())  # restored


def test_padded_layers_give_the_same_outputs() -> None:
    mlp = nn.ModuleDict({"fc1": nn.Linear(24, 1024), "fc2": nn.Linear(1024, 8)})
    model = nn.ModuleDict({"mlp": mlp, "wide": nn.Linear(1024, 8), "narrow": nn.Linear(8, 8)})
    x, rows = torch.randn(5, 24), torch.randn(5, 1024)

    def outputs() -> Tensor:
        return torch.cat([mlp["fc2"](F.gelu(mlp["fc1"](x))), model["wide"](rows)])

    expected, layers = outputs(), [mlp["fc1"], mlp["fc2"], model["wide"]]
    with vision.padded_rows(model):
        torch.testing.assert_close(outputs(), expected)
        fc1, fc2, wide = mlp["fc1"], mlp["fc2"], model["wide"]
        assert fc1.weight.shape == (1024 + GAP, 24 + GAP) and fc1.bias is None
        assert fc2.weight.shape == (8, 1024 + GAP) and fc2.bias is not None  # fc1 pads its rows
        assert wide.weight.shape == (8, 1024 + GAP) and wide.bias is None
        assert type(model["narrow"]) is nn.Linear
    assert [mlp["fc1"], mlp["fc2"], model["wide"]] == layers


@pytest.mark.parametrize("option", [{"dropout": 0.1}, {"causal": True}, {"grouped": True}])
def test_unsupported_attention_is_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="with dropout, causal order, grouped heads"):
        _attention(None, None, None, **option)
