"""Architectures that the fused model is compared with, behind one interface (paper section 3.2, appendix B)."""
