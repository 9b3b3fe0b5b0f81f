"""The management API: how people's programs reach what the commands of worker/cli do; no logic of its own."""
