"""Installs the robot package sf_ros with its launch files; training, export and calibration run from the checkout."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "sf_ros"
HERE = Path(__file__).resolve().parent  # colcon build --symlink-install runs a symlink in its build folder
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / NAME / "__init__.py").read_text(encoding="utf-8"))[1]

# pytest 9 fails where a ROS 2 shell loads launch_testing's plugin; onnx writes the small models that tests load; mcap
# reads recordings without our code
TEST = ["pytest>=7,<9", "pytest-timeout", "pytest-xdist>=3.6", "filelock>=3.16", "onnx>=1.18", "mcap>=1.2"]

setup(
    name=NAME,
    version=VERSION,
    description="Social perception for robots: gaze, looking at me, expressions, gestures and relationships",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="sf_ros maintainers",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["demo/*", "demo/**/*", "engines/people/weights/*", "msgs/definitions/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("launch/*.yaml"))),
        (f"share/{NAME}/rviz", sorted(glob("launch/*.rviz"))),
    ],
    zip_safe=False,
    # What the robot imports. Torch is absent on purpose: on a Jetson the system supplies it (constraints-robot.txt).
    install_requires=[
        "numpy>=1.23",
        "opencv-python>=4.7",
        "pillow>=10",
        "safetensors>=0.4",
        "transformers>=5.0",
        "scipy>=1.8",
        "rosbags>=0.11",
        "ruamel.yaml>=0.18",
        "rich>=13",
    ],
    extras_require={
        # onnxruntime and onnxruntime-gpu install the same module: take [cpu] or [gpu], never both.
        "cpu": ["torch>=2.6", "torchvision>=0.21", "onnxruntime>=1.20"],
        "gpu": ["onnxruntime-gpu>=1.20"],
        "yolo": ["ultralytics>=8.3"],  # AGPL-3.0; the demo bundle's detector needs it
        "people": ["onnxruntime>=1.20", "ai-edge-litert>=2.1"],  # the bundle of public models, without torch
        "calibrate": ["tyro>=0.9", "matplotlib>=3.9", "pyyaml>=6"],  # python -m calibration.camera, also on the robot
        "train": [
            "torch>=2.6",
            "torchvision>=0.21",
            "peft>=0.18",
            "tokenizers>=0.22",
            "onnx>=1.18",
            "onnxscript>=0.5",
            "onnxslim>=0.1.60",
            "open_clip_torch>=2.30",
            "matplotlib>=3.9",
            "accelerate>=1.10",
            "filelock>=3.16",
            "scikit-learn>=1.5",
            "tensorboard>=2.19",
            "tyro>=0.9",
            "pyyaml>=6",
        ],
        "test": TEST,
        "dev": [*TEST, "ruff>=0.12", "mypy>=1.15"],
    },
    entry_points={
        "console_scripts": [
            "sf_ros_perceive = sf_ros.perceive:main",
            "perception_node = sf_ros.ros.programs:perception_node",
            "demo_camera = sf_ros.ros.programs:demo_camera",
        ]
    },
)
