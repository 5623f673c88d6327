"""What is copied into the stand-in images; `images.py` says which image gets what."""

__all__: list[str] = []
