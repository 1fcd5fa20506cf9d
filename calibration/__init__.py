"""Calibration, run from the checkout: cameras (intrinsics, extrinsics). Beside `sf_ros`, never imported by it."""
