"""Passwords, and what follows wrong ones: for faces whose people have no user of their own."""
