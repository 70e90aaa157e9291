"""Sizes of a bench: n replies of d values, f of them malicious."""

# The papers' networks at 17 nodes, ResNet-18 at 50, and many nodes.
PRESETS = {
    "small": (17, 431_080, 4),
    "medium": (17, 1_310_922, 3),
    "large": (50, 11_173_962, 10),
    "crowd": (500, 431_080, 100),
}
