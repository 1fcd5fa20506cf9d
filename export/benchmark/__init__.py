"""How fast a bundle answers here, against other ways to ask the same, and against what the machine can do."""

from sf_ros.engines import threads

threads.prepare()  # as the robot's commands do; the modules of this package import torch
