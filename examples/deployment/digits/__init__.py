"""A small Flower app that is ready to be deployed."""
