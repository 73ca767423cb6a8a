"""The student: loaded or built, its forward pass, its device."""
