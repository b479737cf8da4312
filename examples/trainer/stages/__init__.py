"""The stages: each file trains what the recipes of its name say, from data to best weights."""
