"""A lifecycle node that declares the parameters of `parameters()` and takes what people write in YAML files."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter as RosParameter

from sf_ros.ros.conversions import descriptor
from sf_ros.ros.parameters import Value, fitted, parameters, unknown_parameter

OF_ROS = ("qos_overrides.", "start_type_description_service")  # parameters of ROS's own that rclpy declares later


class ParameterNode(LifecycleNode):
    """Declares every parameter; ValueError for a value of another type or outside its range.

    Whole numbers are taken where a double is meant. What a YAML file names and the node does not know is in the log.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.parameters_by_name = parameters()
        # rclpy has no public list of the values given by YAML files and the command line.
        given: dict[str, RosParameter] = self._parameter_overrides
        for parameter in self.parameters_by_name.values():
            if parameter.name in given:
                value = fitted(parameter, given[parameter.name].value)
                given[parameter.name] = RosParameter(parameter.name, value=value)
            self.declare_parameter(parameter.name, parameter.default, descriptor(parameter))
        for unknown in given:
            if not (self.has_parameter(unknown) or unknown.startswith(OF_ROS)):
                self.get_logger().warning(f"{unknown_parameter(unknown)} It has no effect.")

    def values(self) -> dict[str, Value]:
        """The value of every parameter."""
        return {name: self.get_parameter(name).value for name in self.parameters_by_name if self.has_parameter(name)}

    def set_parameters(self, parameter_list: list[RosParameter]) -> list[SetParametersResult]:
        """Set parameters one by one, as set_parameters_atomically does with each."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """Set those that differ from their values: `ros2 param load` of an unchanged dump changes nothing.

        The reason of a failure names the nearest known parameter for an unknown one.
        """
        changes = []
        for change in parameter_list:
            if not self.has_parameter(change.name):
                return SetParametersResult(successful=False, reason=unknown_parameter(change.name))
            if (parameter := self.parameters_by_name.get(change.name)) is not None:
                try:
                    change = RosParameter(change.name, value=fitted(parameter, change.value))
                except ValueError as error:
                    return SetParametersResult(successful=False, reason=str(error))
            if change.value != self.get_parameter(change.name).value:
                changes.append(change)
        return super().set_parameters_atomically(changes)
