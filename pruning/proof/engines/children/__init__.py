"""Programs of the engines' processes; they import nothing of this project."""
