"""The bundle of public models of real people: which ones, where they come from, and how they are fetched."""
