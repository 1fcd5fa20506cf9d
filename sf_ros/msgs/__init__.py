"""ROS messages and topics as data; nothing here needs ROS installed."""
