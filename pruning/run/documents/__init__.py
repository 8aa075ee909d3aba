"""One document about a cut, for people: a page with pictures, a model card."""
