"""Calibration, run from the checkout: cameras, confidences and smoothing. `sf_ros` never imports it."""
