"""Other libraries' models, in and out. Nothing here is loaded before it is asked for."""
