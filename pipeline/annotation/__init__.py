"""What is marked in a text before the teacher sees it: its tokens, and its words and phrases."""
