"""What teacher and student must compute alike. The one room of this floor where torch is allowed."""
