"""The model card: what is known of a fit, in Markdown."""
