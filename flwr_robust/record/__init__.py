"""What happened to each node, read back from the file that a strategy's `report_path` names."""
