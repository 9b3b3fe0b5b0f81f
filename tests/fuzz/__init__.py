"""`make fuzz`: seeded manifests and bodies against the reference parser, and mutated bodies against a real receiver."""
