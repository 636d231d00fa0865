"""What this machine and a folder of recordings can do, and what is wrong with them."""
