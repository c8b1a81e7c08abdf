"""One file a data set: how its folder is read."""
