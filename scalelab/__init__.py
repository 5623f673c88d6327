"""The shared core of scalelab: what two months or more use, with no month's vocabulary in it."""
