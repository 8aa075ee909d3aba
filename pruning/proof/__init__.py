"""That the compact network computes what the masked one does, here and in other engines."""
