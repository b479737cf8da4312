"""What an image tower looked at, and which words counted: relevance of patches and of words."""
