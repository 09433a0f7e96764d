"""Backbones: plain torch modules, called as `module(x, t, y)`."""
