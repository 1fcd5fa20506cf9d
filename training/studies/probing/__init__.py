"""Linear and attentive probes on frozen features."""
