"""``segsync apply``: what an installation is to be, from a file; see ``declaration`` for the file's form."""
