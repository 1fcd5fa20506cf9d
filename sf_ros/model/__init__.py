"""The fused model in torch: frozen encoder, connector, LLM, heads. No ROS, no LoRA."""
