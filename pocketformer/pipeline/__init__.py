"""The recipe, the stages of a run, and what ties the rooms together."""
