"""Wire formats: bytes of the OpenAI API to parts and back, nothing else."""
