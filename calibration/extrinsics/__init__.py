"""Pose of a camera on the robot's head."""
