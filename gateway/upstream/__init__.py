"""Where an allowed request goes. ``http``: any OpenAI-compatible server; ``local``: the built-in Task head."""
