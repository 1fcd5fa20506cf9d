"""The engine that runs an exported fused model."""
