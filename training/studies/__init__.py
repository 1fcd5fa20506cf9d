"""Studies: grids of runs that put a question to the model, each left as results.json, a table and a picture."""
