"""Networks for average costs and for choices; this room imports flax and optax."""
