"""Reports of studies: one HTML file that works offline."""
