"""Conversations: what a record may hold, how a chat template shows it, and which characters of that are learnt."""
