"""The commands, one file each: what a command does, and how its result looks."""
