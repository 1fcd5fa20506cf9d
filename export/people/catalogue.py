"""The public models: addresses, hashes, licences, and which of them make up a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sf_ros.core.people_bundle import FACES, PERSONS, ModelFile, PublicModel
from sf_ros.engines.people import clip, gaze_lle

YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
OPENCV_ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models"
MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models"
EMOTIEFF = "https://github.com/sb-ai-lab/EmotiEffLib/raw/main/models/affectnet_emotions/onnx"
HUGGING_FACE = "https://huggingface.co"
FACE_TASK = f"{MEDIAPIPE}/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
FACE_TASK_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
HAND_TASK = f"{MEDIAPIPE}/hand_landmarker/hand_landmarker/float16/1/hand_landmarker.task"
HAND_TASK_SHA256 = "fbc2a30080c3c557093b5ddfc334698132eb341044ccee322ccf8bcf3607cde1"
APACHE, MIT = "Apache-2.0", "MIT"
COCO = "COCO 2017 (images under Flickr terms, annotations CC BY 4.0)"
MEDIAPIPE_DATA = "Google's own recordings, with consent (MediaPipe model cards)"

YOLOX_NANO = PublicModel(
    "YOLOX-nano",
    (PERSONS,),
    (
        ModelFile(
            "yolox_nano.onnx",
            "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
            3_659_407,
            f"{YOLOX}/yolox_nano.onnx",
        ),
    ),
    code=APACHE,
    weights=APACHE,
    data=COCO,
    gflop=1.08,
)
YOLOX_S = PublicModel(
    "YOLOX-s",
    (PERSONS,),
    (
        ModelFile(
            "yolox_s.onnx",
            "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
            35_858_002,
            f"{YOLOX}/yolox_s.onnx",
        ),
    ),
    code=APACHE,
    weights=APACHE,
    data=COCO,
    gflop=26.8,
)
YUNET = PublicModel(
    "YuNet 2026may",
    (FACES,),
    (
        ModelFile(
            "face_detection_yunet_2026may.onnx",
            "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
            229_738,
            f"{OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2026may.onnx",
        ),
    ),
    code=MIT,
    weights=MIT,
    data="WIDER FACE (images for research)",
    gflop=0.69,
)
FACE_LANDMARKER = PublicModel(
    "MediaPipe face landmarker",
    ("expression", "looking_at_me", "gaze"),
    (
        ModelFile(
            "face_landmarks_detector.tflite",
            "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
            2_553_590,
            FACE_TASK,
            "face_landmarks_detector.tflite",
            FACE_TASK_SHA256,
        ),
        ModelFile(
            "face_blendshapes.tflite",
            "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
            955_312,
            FACE_TASK,
            "face_blendshapes.tflite",
            FACE_TASK_SHA256,
        ),
    ),
    code=APACHE,
    weights=APACHE,
    data=MEDIAPIPE_DATA,
    gflop=0.29,  # counted in the files, as below
    note="expression and looking_at_me are read from its output by small weights of this project",
)
HAND_LANDMARKER = PublicModel(
    "MediaPipe hand landmarker",
    ("gesture",),
    (
        ModelFile(
            "hand_detector.tflite",
            "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
            2_339_846,
            HAND_TASK,
            "hand_detector.tflite",
            HAND_TASK_SHA256,
        ),
        ModelFile(
            "hand_landmarks_detector.tflite",
            "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
            5_478_917,
            HAND_TASK,
            "hand_landmarks_detector.tflite",
            HAND_TASK_SHA256,
        ),
    ),
    code=APACHE,
    weights=APACHE,
    data=MEDIAPIPE_DATA,
    gflop=1.34,  # palms, and one hand
    note="gestures are read from its 21 joints by weights of this project, trained on drawn hands",
)
EMOTIEFF_B0 = PublicModel(
    "EmotiEffLib enet_b0_8_best_vgaf",
    ("expression",),
    (
        ModelFile(
            "enet_b0_8_best_vgaf.onnx",
            "00085f9a8ef0bf8fc24a645550185703768951a53aff9f141c8637529eba1840",
            0,
            f"{EMOTIEFF}/enet_b0_8_best_vgaf.onnx",
        ),
    ),
    code=APACHE,
    weights=f"{APACHE} (declared)",
    data="VGGFace2 and AffectNet: research data, whose terms you accept",
    gflop=0.78,
)

# Files with other bytes that compute the same, which --from accepts: sha256 -> (file it stands for, bytes, what it is).
EQUIVALENTS: Mapping[str, tuple[str, int, str]] = {
    "e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd": (
        "yolox_nano.onnx",
        3_678_356,
        "a re-export of YOLOX-nano",
    ),
}


# Weights that are converted on the machine that fetches them. No hashes are published: those of the first fetch are
# noted in the manifest's provenance.
GAZE_LLE_SOURCES = (
    ModelFile(
        "gazelle_dinov2_vitb14_inout.pt",
        "",
        0,
        "https://github.com/fkryan/gazelle/releases/download/v1.0.0/gazelle_dinov2_vitb14_inout.pt",
    ),
    ModelFile("dinov2_base.safetensors", "", 0, f"{HUGGING_FACE}/facebook/dinov2-base/resolve/main/model.safetensors"),
)
GAZE_LLE = PublicModel(
    "Gaze-LLE ViT-B/14 in/out",
    ("gaze",),
    (),
    code=f"{MIT}; DINOv2 {APACHE}",
    weights=f"{MIT}; DINOv2 {APACHE}",
    data="GazeFollow and VideoAttentionTarget: no licence found",
    gflop=214.0,
    note="8.6 GFLOP more for each head",
)
CLIP_SOURCES = (
    ModelFile(
        "open_clip_model.safetensors",
        "",
        0,
        f"{HUGGING_FACE}/laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K/resolve/main/open_clip_model.safetensors",
    ),
)
CLIP = PublicModel(
    "CLIP ViT-B/16 DataComp-XL",
    ("domain", "relation"),
    (),
    code=MIT,
    weights=MIT,
    data="DataComp-XL: images of the open web",
    gflop=35.1,
    note="zero-shot, for each pair; calibration unknown",
)


@dataclass(frozen=True)
class Choice:
    """What a bundle is made of: its models, what is converted into more of them, and the method of each task."""

    models: tuple[PublicModel, ...]
    methods: Mapping[str, str]
    converted: tuple[tuple[PublicModel, tuple[ModelFile, ...]], ...] = ()  # model, what it is made from


LIGHT = Choice(
    (YOLOX_NANO, YUNET, FACE_LANDMARKER, HAND_LANDMARKER),
    {"gesture": "hand_joints", "gaze": "gaze_ray", "expression": "blendshapes", "looking_at_me": "face_mesh"},
)
GPU = Choice(
    (*LIGHT.models, YOLOX_S),
    {**LIGHT.methods, "gaze": "gaze_lle", "domain": "clip", "relation": "clip"},
    ((GAZE_LLE, GAZE_LLE_SOURCES), (CLIP, CLIP_SOURCES)),
)
NAMES = frozenset(  # of all files that a bundle may have
    {entry.file for model in (*GPU.models, EMOTIEFF_B0) for entry in model.files}
    | {gaze_lle.FILE, clip.FILE, clip.SENTENCES}
)
SETS = {"light": LIGHT, "gpu": GPU}
EXPRESSIONS = ("blendshapes", "emotieff")


def choose(set_name: str, expression: str = EXPRESSIONS[0]) -> Choice:
    """The models and methods of a set of SETS, with one of EXPRESSIONS."""
    choice = SETS[set_name]
    if expression == "emotieff":
        methods = {**choice.methods, "expression": "emotieff"}
        return replace(choice, models=(*choice.models, EMOTIEFF_B0), methods=methods)
    return choice
