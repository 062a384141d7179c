"""The Beam application: configs, the graph, the tile store, outputs and the command line."""
