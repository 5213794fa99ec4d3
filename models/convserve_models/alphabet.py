"""Alphabets of the character networks."""

# Zhang & LeCun, 1502.01710: the reference program's 69 characters ('-' stands twice, the first
# position counts) and the newline of the paper's list.
CREPE = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{}\n"
