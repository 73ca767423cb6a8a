"""How spans are found: words of any language, phrases of English, and whatever a spaCy pipeline finds."""
