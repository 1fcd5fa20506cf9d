"""Processes that a launcher started together become workers of their own: each trains cells alone, on a GPU of its own.

`accelerate launch` and `torchrun` say in the environment which of how many a process is. accelerate would have them
train one model together; a grid of cells is rather shared out among them (training.studies.grid.grid).
"""

from __future__ import annotations

import os
import subprocess
import sys

GROUP = ("MASTER_", "TORCHELASTIC_", "ACCELERATE_USE_")  # how names begin that tell torch and accelerate of a group,
NUMBERS = ("RANK", "WORLD_SIZE")  # and how they end
COUNT = "import torch; print(torch.cuda.device_count())"


def detach_from_launcher() -> int:
    """Leave the group of processes that were launched together, with the GPU of this one's number; returns the number.

    0, with nothing changed, where the process was launched alone. To be called before CUDA is initialised: from then on
    it does not see that devices are hidden. ValueError when there are fewer GPUs than processes.
    """
    environment = os.environ
    if "LOCAL_RANK" not in environment or int(environment.get("WORLD_SIZE", 1)) == 1:
        return 0
    number, local = int(environment["RANK"]), int(environment["LOCAL_RANK"])
    counted = subprocess.run([sys.executable, "-c", COUNT], stdout=subprocess.PIPE, text=True, check=True)
    if gpus := int(counted.stdout):
        # Hidden rather than not chosen: a cell's state holds the random state of all visible devices, by their order.
        environment["CUDA_VISIBLE_DEVICES"] = visible(local, gpus, environment.get("CUDA_VISIBLE_DEVICES"))
    for name in list(environment):
        if name.startswith(GROUP) or name.endswith(NUMBERS):
            del environment[name]
    return number


def visible(local: int, gpus: int, before: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for the process of a number on this machine, where `before` showed it so many GPUs."""
    if local >= gpus:
        raise ValueError(f"process {local} found {gpus} GPUs; expected one for each. PrefixCache {gpus} processes.")
    return before.split(",")[local] if before else str(local)
