"""The engine runs every choice of the model as the model does: attention, pooling, prompts and their order, boxes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from sf_ros.core import bundle as bundles  # noqa: E402
from sf_ros.core.config import RuntimeConfig  # noqa: E402
from sf_ros.engines.fused.batches import looks, marks, plan  # noqa: E402
from sf_ros.engines.fused.engine import FusedEngine  # noqa: E402
from tests.engines.fused.test_batches import numbers  # noqa: E402
from tests.engines.fused.test_engine import reference, unsigned  # noqa: E402
from tests.engines.fused.test_prefix_reuse import IMAGE, PLACES, everything  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel

TOLERANCE = 1e-5
EVERYTHING = everything(PLACES["rows apart"][:3])  # with rows above all boxes, to be reused
OPTIONS: dict[str, dict[str, object]] = {
    "full": {"attention": "full"},
    "pooling": {"pooling": 2},
    "learned": {"prompt_style": "learned"},
    "all": {"attention": "full", "pooling": 2, "prompt_style": "learned", "learned_prompts": 3},
    "token": {"boxes": "token"},
    "token, full": {"boxes": "token", "attention": "full", "pooling": 2},
    "prompt first": {"order": "prompt_first"},
    "prompt first, full": {"order": "prompt_first", "attention": "full", "pooling": 2},
    "prompt first, token, learned": {"order": "prompt_first", "boxes": "token", "prompt_style": "learned"},
}


@pytest.fixture(scope="module", params=OPTIONS, name="exported_model")
def _exported_model(
    request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FusedModel, Path]:
    """A model and its bundle's folder. What sees is the same in most of them, and then exported once."""
    from export.llm import export_llm
    from export.vision import export_vision
    from tests.tiny_models import CONFIG, fused_model

    model = fused_model(dataclasses.replace(CONFIG, **OPTIONS[request.param]))
    root = tmp_path_factory.mktemp(request.param)
    if model.config.boxes == "token":  # its connector has no vector for boxed patches
        export_vision(model, root / bundles.VISION)
    else:
        shutil.copyfile(exported / bundles.VISION, root / bundles.VISION)
    export_llm(model, root)
    return model, root


@pytest.mark.parametrize("reuse", ["off", "on"])
def test_packed_questions_are_answered_as_the_model_answers_each(
    exported_model: tuple[FusedModel, Path], reuse: str
) -> None:
    model, root = exported_model
    if reuse == "on" and model.config.attention == "full" and model.config.boxes == "patch":
        pytest.skip("boxes change every token: there is nothing to reuse")
    config = RuntimeConfig(device="cpu", precision="float32", prefix_reuse=reuse)
    engine = FusedEngine(unsigned(root, model.config), config)
    packed = engine.answer(IMAGE, EVERYTHING)
    for question, answer in zip(EVERYTHING, packed, strict=True):
        expected = reference(model, question, IMAGE)
        assert np.abs(numbers(answer) - expected).max() < TOLERANCE, question
        assert np.ptp(expected) > 100 * TOLERANCE, "a flat answer proves nothing"
    asked = looks(EVERYTHING)
    planned = plan(asked, marks(asked, IMAGE.shape[1], IMAGE.shape[0], model.config.encoder.grid), model.config, reuse)
    assert any(one.reused for one in planned) == (reuse == "on"), "this is not the way that was to be proven"
