"""Social perception for robots: detector, tracker and one fused model (SocialFusion, arXiv 2512.01148)."""

import os

# onnxruntime's builds write a device id into the home folder when imported, and report their use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
