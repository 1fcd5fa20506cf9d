"""Parameters and health as ROS messages."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

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


def diagnostic_status(health: Health, name: str, camera_frame: str) -> DiagnosticStatus:
    """The status of the node called `name`; the hardware is the camera's frame."""
    level, message, values = health.report()
    return DiagnosticStatus(
        level=bytes([level]),
        name=f"/social_perception{name}",
        message=message,
        hardware_id=camera_frame,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
