"""The Safety head: the one renderer, the trunk in llama.cpp, the head on it, and the process that runs them."""
