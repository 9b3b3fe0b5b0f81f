"""``segsync bench``: what the machine could do, what segsync does with it, and the ratio of the two."""
