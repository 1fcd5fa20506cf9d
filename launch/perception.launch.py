"""Social perception from a camera:  ros2 launch sf_ros perception.launch.py image:=/camera/image_raw"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import EqualsSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

BOOL = ["true", "false"]
SHARE = FindPackageShare("sf_ros")
# name, default, description, choices
ARGUMENTS = (
    ("image", "/camera/image_raw", "Topic of the camera images; with compressed:=true, '<image>/compressed'.", None),
    ("camera_info", "/camera/camera_info", "Topic of the camera's calibration, for gaze in space.", None),
    ("depth", "/camera/depth/image_raw", "Topic of depth images aligned with the camera's (use_depth:=true).", None),
    ("bundle", "", "Folder of the exported model; empty: the demo bundle (drawn people only).", None),
    ("device", "auto", "auto | cpu | cuda[:N]; auto uses the CPU, with a warning, where there is no GPU.", None),
    ("source", "none", "Camera to start: the demo clip, or an installed driver.",
     ["none", "demo", "usb_cam", "v4l2_camera"]),
    ("video_device", "/dev/video0", "Device of usb_cam or v4l2_camera.", None),
    ("compressed", "false", "Subscribe to compressed images.", BOOL),
    ("image_reliability", "best_effort", "QoS of the image subscription.", ["best_effort", "reliable"]),
    ("use_depth", "false", "Subscribe to depth images, for gaze targets in 3-D.", BOOL),
    ("persons", "internal", "Person ids: one per track, of another node, none.", ["internal", "external", "off"]),
    ("humans_ns", "/humans", "Namespace of the REP-155 topics; give each camera its own.", None),
    ("params_file", PathJoinSubstitution([SHARE, "config", "perception.yaml"]), "YAML file with parameters.", None),
    ("namespace", "", "Namespace of the node.", None),
    ("name", "sf_ros", "Name of the node.", None),
    ("autostart", "true", "Configure and activate the node; false: with 'ros2 lifecycle set'.", BOOL),
    ("use_sim_time", "false", "Use the time of /clock.", BOOL),
    ("rviz", "false", "Start RViz with the overlay and TF frames.", BOOL),
    ("rviz_frame", "camera", "Fixed frame of RViz: the frame_id of the images.", None),
    ("log_level", "info", "Lowest level that is logged.", ["debug", "info", "warn", "error", "fatal"]),
)  # fmt: skip


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node with its transitions, and the optional camera and RViz."""
    value = LaunchConfiguration
    node = LifecycleNode(
        package="sf_ros",
        executable="perception_node",
        name=value("name"),
        namespace=value("namespace"),
        output="screen",
        parameters=[
            value("params_file"),
            {name: text(name) for name in ("bundle", "device", "image_reliability", "persons", "humans_ns")},
            {name: flag(name) for name in ("compressed", "use_depth", "use_sim_time")},
        ],
        remappings=[(name, value(name)) for name in ("image", "camera_info", "depth")],
        arguments=["--ros-args", "--log-level", value("log_level")],
    )
    configure = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE)
    activate = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE)
    autostart = IfCondition(value("autostart"))
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t, choices=c) for n, d, t, c in ARGUMENTS),
            node,
            RegisterEventHandler(
                OnProcessStart(target_action=node, on_start=[EmitEvent(event=configure)]), condition=autostart
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[EmitEvent(event=activate)],
                    handle_once=True,  # later transitions are the user's
                ),
                condition=autostart,
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="unconfigured",
                    entities=[LogInfo(msg="sf_ros was not configured; see the reason in its log above.")],
                )
            ),
            Node(
                package="sf_ros",
                executable="demo_camera",
                name="camera",
                namespace=value("namespace"),
                remappings=[("image", value("image"))],
                condition=source_is("demo"),
            ),
            driver("usb_cam", "usb_cam_node_exe"),
            driver("v4l2_camera", "v4l2_camera_node"),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "perception.rviz"]), "-f", value("rviz_frame")],
                remappings=[("/sf_ros/overlay", [value("namespace"), "/", value("name"), "/overlay"])],
                condition=IfCondition(value("rviz")),
            ),
        ]
    )


def driver(package: str, executable: str) -> Node:
    """A camera driver, started if the argument 'source' names its package."""
    topics = [("image_raw", LaunchConfiguration("image")), ("camera_info", LaunchConfiguration("camera_info"))]
    return Node(
        package=package,
        executable=executable,
        name="camera",
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"video_device": text("video_device")}],
        remappings=topics,
        condition=source_is(package),
    )


def text(name: str) -> ParameterValue:
    """An argument as a string parameter, even if it looks like a number."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def flag(name: str) -> ParameterValue:
    """An argument as a boolean parameter."""
    return ParameterValue(LaunchConfiguration(name), value_type=bool)


def source_is(name: str) -> IfCondition:
    """A condition: the argument 'source' has a value."""
    return IfCondition(EqualsSubstitution(LaunchConfiguration("source"), name))
