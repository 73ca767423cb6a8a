"""The marks in a text before the teacher sees it: its tokens, and its words and phrases."""
