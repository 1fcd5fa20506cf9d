"""Print who looks at the camera, frame by frame:  python examples/perceive_video.py VIDEO"""

import sys

from sf_ros.core.attention import looks_at_camera
from sf_ros.core.config import RuntimeConfig
from sf_ros.io.sources import open_source
from sf_ros.perception.pipeline import load_pipeline

pipeline = load_pipeline(None, RuntimeConfig())  # None: the demo bundle
with open_source(sys.argv[1]) as source:
    for frame in source:
        cues = pipeline.step(frame)
        looking = [person.person.track_id for person in cues.people if looks_at_camera(person)]
        print(f"{cues.stamp:.2f} s: {len(cues.people)} people, looking at the camera: {looking}")
