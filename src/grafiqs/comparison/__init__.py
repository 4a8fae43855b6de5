"""How runs agree, and what several say together."""
