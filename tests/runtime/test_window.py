"""Without a display nothing is shown, and that is said."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.runtime.window import WindowError, show


def test_without_a_display_an_error_says_so_and_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WindowError, match="needs a display"):
        show("nothing", np.zeros((4, 4, 3), np.uint8))
