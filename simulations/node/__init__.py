"""What a node does: models, local training, poisoned labels."""
