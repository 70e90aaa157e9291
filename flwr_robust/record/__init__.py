"""What happened to each node, and how often it was left out."""
