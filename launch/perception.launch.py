"""Social perception from a camera:  ros2 launch sf_ros perception.launch.py image:=/camera/image_raw"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from launch import Event, LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

BOOL = ["true", "false"]
SHARE = FindPackageShare("sf_ros")
# name, default, description, choices
ARGUMENTS = (
    ("image", "/camera/image_raw", "Topic of the camera images; with compressed:=true, '<image>/compressed'.", None),
    ("camera_info", "/camera/camera_info", "Topic of the camera's calibration, for gaze in space.", None),
    ("depth", "/camera/depth/image_raw", "Topic of depth images aligned with the camera's (use_depth:=true).", None),
    ("bundle", "", "demo (drawn people only) | people (public models) | folder of a model; empty: demo.", None),
    ("device", "auto", "auto | cpu | cuda[:N]; auto uses the CPU, with a warning, where there is no GPU.", None),
    ("source", "none", "Camera to start: the demo clip, or an installed driver; its end is the end of the launch.",
     ["none", "demo", "usb_cam", "v4l2_camera"]),
    ("video", "", "Video to play again and again in place of a camera (alone, or with source:=demo).", None),
    ("video_device", "/dev/video0", "Device of usb_cam or v4l2_camera.", None),
    ("compressed", "false", "Subscribe to compressed images.", BOOL),
    ("image_reliability", "best_effort", "QoS of the image subscription.", ["best_effort", "reliable"]),
    ("use_depth", "false", "Subscribe to depth images, for gaze targets in 3-D.", BOOL),
    ("persons", "internal", "Person ids: one per track, of another node, none.", ["internal", "external", "off"]),
    ("humans_ns", "/humans", "Namespace of the REP-155 topics; give each camera its own.", None),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]),
     "YAML file with parameters: before the defaults of these arguments, behind those that are given.", None),
    ("namespace", "", "Namespace of the node.", None),
    ("name", "sf_ros", "Name of the node.", None),
    ("autostart", "true", "Configure and activate the node; false: with 'ros2 lifecycle set'.", BOOL),
    ("respawn", "false", "Start the node and the camera again when they end.", BOOL),
    ("use_sim_time", "false", "Use the time of /clock.", BOOL),
    ("rviz", "false", "Start RViz with the overlay and TF frames.", BOOL),
    ("rviz_frame", "camera", "Fixed frame of RViz: the frame_id of the images.", None),
    ("log_level", "info", "Lowest level that is logged.", ["debug", "info", "warn", "error", "fatal"]),
)  # fmt: skip
# The arguments that are parameters of the node, too.
TEXTS = ("bundle", "device", "image_reliability", "persons", "humans_ns")
FLAGS = ("compressed", "use_depth", "use_sim_time", "autostart")
DRIVERS = {"demo": ("sf_ros", "demo_camera"), "usb_cam": ("usb_cam", "usb_cam_node_exe"),
           "v4l2_camera": ("v4l2_camera", "v4l2_camera_node")}  # fmt: skip
RESPAWN_DELAY_S = 2.0


def generate_launch_description() -> LaunchDescription:
    """The arguments, then the node, the optional camera and RViz."""
    given: dict[str, str] = {}  # the arguments that somebody gave, before the others get their defaults

    def remember(context: LaunchContext) -> None:
        given.update(context.launch_configurations)

    def start(context: LaunchContext) -> list[Action]:
        return actions(context, given.keys())

    def forget(context: LaunchContext) -> None:
        for name, *_ in ARGUMENTS:  # else the defaults would count as given where this file is included again
            if name not in given:
                context.launch_configurations.pop(name, None)

    arguments = (DeclareLaunchArgument(n, default_value=d, description=t, choices=c) for n, d, t, c in ARGUMENTS)
    functions = (OpaqueFunction(function=function) for function in (start, forget))
    return LaunchDescription([OpaqueFunction(function=remember), *arguments, *functions])


def actions(context: LaunchContext, given: Collection[str]) -> list[Action]:
    """The actions for the arguments' values. An exception says what is missing, before anything has been started."""
    values = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    respawn = values["respawn"] == "true"
    if values["video"]:
        if values["source"] not in ("none", "demo"):
            raise RuntimeError(f"video is '{values['video']}' and source '{values['source']}'; expected one of them.")
        values["source"] = "demo"
    if not Path(values["params_file"]).is_file():
        raise RuntimeError(f"params_file is '{values['params_file']}'; expected an existing YAML file.")
    flags = {name: values[name] == "true" for name in FLAGS}
    overrides = {name: value for name, value in (values | flags).items() if name in (*TEXTS, *FLAGS) and name in given}
    node = LifecycleNode(
        package="sf_ros",
        executable="perception_node",
        name=values["name"],
        namespace=values["namespace"],
        output="screen",
        parameters=[
            {"autostart": flags["autostart"]},
            values["params_file"],
            *([written(overrides, full_name(values))] if overrides else []),
        ],
        remappings=[(name, values[name]) for name in ("image", "camera_info", "depth")],
        arguments=["--ros-args", "--log-level", values["log_level"]],
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
    )
    unconfigured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="unconfigured",
        entities=[LogInfo(msg="sf_ros was not configured; see the reason in its log above.")],
    )
    started = [RegisterEventHandler(unconfigured), node]
    if values["source"] != "none":
        started.append(driver(context, values, respawn))
    if values["rviz"] == "true":
        started.append(rviz(context, values))
    return started


def full_name(values: Mapping[str, str]) -> str:
    """The node's full name, '/robot/sf_ros'."""
    return "/".join(["", *(part for part in values["namespace"].split("/") if part), values["name"]])


def written(overrides: Mapping[str, str | bool], node: str) -> str:
    """The path of a file of parameters that goes before earlier files.

    ROS takes the values of the last matching name ("/**", "/sf_ros") in the order in which files first have them.
    """
    with tempfile.NamedTemporaryFile("w", prefix="launch_params_", suffix=".yaml", delete=False) as file:
        json.dump({name: {"ros__parameters": overrides} for name in ("/**", node)}, file)
    return file.name


def driver(context: LaunchContext, values: dict[str, str], respawn: bool) -> Node:
    """The camera driver that the argument 'source' names. Without respawn, the launch ends with it."""
    package, executable = DRIVERS[values["source"]]
    ExecutableInPackage(executable, package).perform(context)

    def end(event: Event, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        reason = f"the camera of {package} ended"
        return [LogInfo(msg=f"The launch ends: {reason}."), EmitEvent(event=Shutdown(reason=reason))]

    setting = "video" if package == "sf_ros" else "video_device"
    image = "image" if package == "sf_ros" else "image_raw"
    return Node(
        package=package,
        executable=executable,
        name="camera",
        namespace=values["namespace"],
        output="screen",
        parameters=[{setting: ParameterValue(values[setting], value_type=str)}],
        remappings=[(image, values["image"]), ("camera_info", values["camera_info"])],
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=None if respawn else end,
    )


def rviz(context: LaunchContext, values: dict[str, str]) -> Node:
    """RViz with the view of this package."""
    ExecutableInPackage("rviz2", "rviz2").perform(context)
    view = PathJoinSubstitution([SHARE, "rviz", "perception.rviz"]).perform(context)
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        arguments=["-d", view, "-f", values["rviz_frame"]],
        remappings=[("/sf_ros/overlay", f"{full_name(values)}/overlay")],
    )
