"""Alphabets of the character networks."""

# Zhang & LeCun, 1502.01710: the reference program's 69 characters ('-' stands twice, the first
# position counts) and the newline of the paper's list.
CREPE = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{}\n"

# Conneau et al., 1606.01781: the space is a symbol too. 70 symbols, each once.
SPACED = " " + "".join(dict.fromkeys(CREPE))
