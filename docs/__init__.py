"""What the documentation's site is made with; the pages themselves are Markdown."""
