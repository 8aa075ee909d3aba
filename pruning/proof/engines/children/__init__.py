"""What the processes of engines run; nothing of this project is imported there."""
