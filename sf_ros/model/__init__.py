"""The fused model in torch: frozen encoder, connector, language body, heads. No ROS, no LoRA."""
