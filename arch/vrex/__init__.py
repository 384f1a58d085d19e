"""V-Rex: retrieval of cached keys and values for streaming video (arXiv 2512.12284)."""
