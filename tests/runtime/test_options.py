"""The engine runs full attention, pooled tokens and learned prompts as the model does, packed or one by one."""

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
from tests.runtime.test_fused import reference  # noqa: E402
from tests.runtime.test_packing import EVERYTHING, IMAGE, numbers  # noqa: E402

if TYPE_CHECKING:
    from sf_ros.model.fusion import FusedModel
    from sf_ros.runtime.fused import FusedEngine

TOLERANCE = 1e-5
OPTIONS: dict[str, dict[str, object]] = {
    "full": {"attention": "full"},
    "pooling": {"pooling": 2},
    "learned": {"prompt_style": "learned"},
    "all": {"attention": "full", "pooling": 2, "prompt_style": "learned", "learned_prompts": 3},
}


@pytest.fixture(scope="module", params=OPTIONS, name="pair")
def _pair(
    request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FusedModel, FusedEngine]:
    """A model and the engine of its bundle. What sees is the same in all of them, so that it is exported once."""
    from export.language import export_language
    from export.parity import unproven
    from tests.tiny_models import CONFIG, fused_model

    model = fused_model(dataclasses.replace(CONFIG, **OPTIONS[request.param]))
    root = tmp_path_factory.mktemp(request.param)
    shutil.copyfile(exported / bundles.VISION, root / bundles.VISION)
    export_language(model, root)
    return model, unproven(root, model.config, model.prompts)


def test_packed_questions_are_answered_as_the_model_answers_each(pair: tuple[FusedModel, FusedEngine]) -> None:
    model, engine = pair
    packed = engine.answer(IMAGE, EVERYTHING)
    for question, answer in zip(EVERYTHING, packed, strict=True):
        expected = reference(model, question, IMAGE)
        assert np.abs(numbers(answer) - expected).max() < TOLERANCE, question
        assert np.ptp(expected) > 100 * TOLERANCE, "a flat answer proves nothing"
