"""The papers' experiments, one TOML file a table or figure, and what reads them."""
