"""The edge layout: the engine answers as the model, whose queries about a frame are one packed sequence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core.config import RuntimeConfig  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from tests.engines.fused.reference import CPU, all_queries, largest_error, make_query, unsigned  # noqa: E402
from tests.tiny_models import CONFIG, fused_model  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

EDGE = dataclasses.replace(
    CONFIG, pooling=2, boxes="token", attention="full", prompt_style="learned", learned_prompts=3, crop_size=24,
    shared_prefix=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> FusedModel:
    model = fused_model(EDGE)
    for module in (model.encoder, model.connector):
        for weight in module.state_dict().values():
            weight.copy_(weight.half())  # exact in every form of vision
    return model


@pytest.fixture(scope="module")
def folder(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.llm import export_llm
    from export.vision import export_vision

    root = tmp_path_factory.mktemp("edge")
    export_vision(model, root / bundles.VISION_TORCH)
    export_llm(model, root)
    return root


@pytest.fixture(scope="module")
def engine(model: FusedModel, folder: Path) -> FusedEngine:
    return FusedEngine(unsigned(folder, EDGE), CPU)


@pytest.mark.parametrize("people", [1, 4])
def test_all_queries_together_are_answered_as_by_the_model(
    engine: FusedEngine, model: FusedModel, people: int
) -> None:
    assert largest_error(engine, model, all_queries(people)) < 1e-4
