"""Pico: the tiny reasoner that ships with Dovetail; its corpus, tokenizer, training and measurement."""
