"""One module for each kind of Run: its section of the page."""
