"""The prompt text of each task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known


def load_prompts(path: str | Path | None, order: str = "visual_first") -> dict[str, str]:
    """Prompt text by task: the built-in ones for an order of ModelConfig, overridden by a JSON file {task: text}.

    ValueError when the file names an unknown task; tasks it leaves out keep the built-in text.
    """
    prompts = {name: task.prompt or (task.lead if order == "prompt_first" else "") for name, task in TASKS.items()}
    if path is None:
        return prompts
    overrides: Mapping[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        return prompts | {known(name, TASKS, "task"): text for name, text in overrides.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
