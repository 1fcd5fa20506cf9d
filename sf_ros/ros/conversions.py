"""Parameters, calibration and health as ROS messages, and back."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from sensor_msgs.msg import CameraInfo

from sf_ros.core.camera import Camera
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.parameters import Parameter


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """The description and range that `ros2 param describe` shows."""
    message = ParameterDescriptor(description=parameter.meaning)
    if not parameter.live:
        message.additional_constraints = "Takes effect when the node is configured."
    low, high = parameter.low, parameter.high
    if low is None or high is None or isinstance(parameter.default, bool | str):
        return message
    if isinstance(parameter.default, int):
        message.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
    else:
        message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    return message


def same_calibration(first: CameraInfo, second: CameraInfo) -> bool:
    """Whether two messages describe the same camera, whatever their stamps."""
    fields = ("k", "d", "p", "width", "height", "distortion_model")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in fields)


def camera_of(info: CameraInfo, rectified: bool) -> Camera:
    """The camera of raw or rectified images. CalibrationError where the message has no usable calibration."""
    # K of rectified images is the left 3 x 3 of P (3 x 4), and they have no distortion.
    k, d = (list(np.reshape(info.p, (3, 4))[:, :3].ravel()), []) if rectified else (info.k, info.d)
    return Camera.from_info(info.width, info.height, k, d, info.distortion_model, info.header.frame_id)


def diagnostic_status(health: Health, name: str, camera: Camera | None) -> DiagnosticStatus:
    """The status of the node called `name`; the hardware is the camera's frame."""
    level, message, values = health.report()
    return DiagnosticStatus(
        level=bytes([level]),
        name=f"/social_perception{name}",
        message=message,
        hardware_id=camera.frame_id if camera else "",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
