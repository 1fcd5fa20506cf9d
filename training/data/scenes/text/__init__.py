"""Sentences and phrases that describe a scene."""
