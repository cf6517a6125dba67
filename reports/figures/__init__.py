"""Figures: images and charts as papers print them."""
