"""How results are shown: tables, pictures, the console."""
