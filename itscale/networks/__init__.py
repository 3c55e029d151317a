"""Plain torch networks behind the bundled models, with ``weights/`` and ``cards/``."""
