"""The robot with ROS 2: the lifecycle node and what it is made of."""
