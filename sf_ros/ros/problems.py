"""What is wrong with what the node receives: always in diagnostics, and once in the log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from sf_ros.ros.diagnostics import Health

LOG_PERIOD_S = 10.0  # between two log lines about the same input


class Problems:
    """At most one problem per input. May be used by several threads, each with inputs of its own."""

    def __init__(self, health: Health, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._health, self._log, self._clock = health, log, clock
        self._logged: dict[str, tuple[str, float]] = {}  # input -> problem without its numbers, time of the log line
        self._open: set[str] = set()

    def set(
        self,
        name: str,
        text: str,
        *,
        warn: bool = True,
        repeat: bool = False,
        detail: str = "",
        state: str = "ok",
    ) -> None:
        """Set the problem of an input; '' clears it.

        warn: the level of diagnostics rises. repeat: log it every LOG_PERIOD_S. detail: for the log alone. state: shown
        without a problem. A problem that differs from the last one in numbers alone is the same.
        """
        self._health.input(name, text, warn=warn, state=state)
        if not text:
            self._open.discard(name)
            return
        kind, now = re.sub(r"[-\d.]+", "#", text), self._clock()
        last, logged_s = self._logged.get(name, ("", -LOG_PERIOD_S))
        if now - logged_s >= LOG_PERIOD_S and (kind != last or repeat or name not in self._open):
            self._logged[name] = kind, now
            self._open.add(name)
            first = text[0] if "_" in text.partition(" ")[0] else text[0].upper()  # names stay as they are
            self._log(first + text[1:] + detail + ("" if (text + detail).endswith(".") else "."))
