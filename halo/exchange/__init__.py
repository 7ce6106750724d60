"""How requests reach the workers and partials come back."""
