"""How long guests are without the guard after somebody has flushed every rule."""
