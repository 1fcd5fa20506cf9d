"""The detector that a configuration names, or that a bundle brings."""

from __future__ import annotations

from pathlib import Path

from sf_ros.core import bundle as bundles
from sf_ros.core import people_bundle
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.people_bundle import FACES, PERSONS, PeopleBundle
from sf_ros.engines.people.network import has_gpu
from sf_ros.engines.threads import available_cores
from sf_ros.perception.detectors.base import Detector, DetectorError

YOLOX, YOLO = "yolox", "yolo"


def load_detector(bundle: Bundle | PeopleBundle, config: RuntimeConfig) -> Detector:
    """`config.detector` if it names one, else the bundle's own: yolox, yolo, or a YOLO file (see RuntimeConfig).

    ultralytics is imported only for a YOLO. DetectorError, BundleError where it cannot be used.
    """
    name = config.detector
    if name == YOLOX or (not name and isinstance(bundle, PeopleBundle)):
        if not isinstance(bundle, PeopleBundle):
            bundle = people_bundle.load(people_bundle.bundle_folder(people_bundle.KIND))
        return _yolox(bundle, config)
    if not name or name == YOLO:
        if isinstance(bundle, PeopleBundle):
            raise DetectorError(
                f"{bundle.root}: a bundle of public models has no YOLO. Name a file, or use the detector '{YOLOX}'."
            )
        path = bundle.path(bundles.DETECTOR)
    else:
        path = Path(name)
    from sf_ros.perception.detectors.yolo import YoloDetector

    return YoloDetector(path, config)


def _yolox(bundle: PeopleBundle, config: RuntimeConfig) -> Detector:
    # onnxruntime, which a YOLO need not wait for
    from sf_ros.engines.people.scene import HAND_JOINTS, PALMS, Networks
    from sf_ros.perception.detectors.yolox import YoloxDetector

    def file(role: str) -> Path:
        """The first file for a role, with a GPU the last: sets list the models of a CPU first."""
        files = [model.files[0].file for model in bundle.manifest.models if role in model.answers and model.files]
        return bundle.path((files or [role])[-1 if has_gpu(config.device) else 0])

    threads = config.threads or available_cores()
    hands = {PALMS, HAND_JOINTS} <= bundle.manifest.files.keys()
    reader = (lambda: Networks(bundle, threads, config.device).hands) if hands else None
    return YoloxDetector(file(PERSONS), file(FACES), config, reader)
