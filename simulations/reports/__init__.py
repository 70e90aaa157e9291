"""Reports of sweeps: tables in the papers' own shape, figures, and a page that holds both."""
