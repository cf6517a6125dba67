"""Transform: image in, image out."""
