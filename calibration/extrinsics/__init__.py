"""Where a camera sits on the robot's head."""
