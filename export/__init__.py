"""Export of checkpoints to bundles, and measurements on bundles."""

import sf_ros as sf_ros  # before onnxruntime, which it keeps from writing into the home folder
