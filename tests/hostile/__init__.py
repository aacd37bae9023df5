"""What a stranger's files try: to run code, to fetch something, to read a file of the user."""
