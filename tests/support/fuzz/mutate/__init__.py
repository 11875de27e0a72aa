"""Mutations: each takes valid content and a seeded generator, and returns content that is not."""
