"""The network: building it, its bundle (one safetensors file), and segmenting tiles."""
