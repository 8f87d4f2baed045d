"""Events to the subscribers of the moment."""
