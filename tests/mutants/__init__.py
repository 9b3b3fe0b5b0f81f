"""`make mutants`: each guard of the protocol is removed from a copy of the tree, one at a time; some test must fail."""
