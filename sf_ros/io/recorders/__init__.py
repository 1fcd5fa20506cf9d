"""Recorders of FrameCues: JSON lines, an annotated video and a rosbag2, which ROS tools open without this package."""
