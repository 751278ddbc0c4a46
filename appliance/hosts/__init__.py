"""How hosts reach volumes."""
