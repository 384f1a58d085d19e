"""Published figures beside predicted ones."""
