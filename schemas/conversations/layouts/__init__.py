"""The layouts of conversations that are built in: one module per layout, each with its LAYOUT."""
