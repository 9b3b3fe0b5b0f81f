"""`make chaos`: everything is broken again and again under load; then the history is checked, entry by entry."""
