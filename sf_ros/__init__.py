"""Social perception for robots: detector, tracker and one fused model (SocialFusion, arXiv 2512.01148)."""

__version__ = "0.1.0"
