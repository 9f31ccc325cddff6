"""Numbered steps from an empty database to the schema that this version declares; each step only adds (expand, then contract)."""
