"""Studies: grids of runs that answer one research question each; results are results.json, a table and a plot."""
