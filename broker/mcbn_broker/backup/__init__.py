"""One encrypted file that holds a broker's data directory, and its way back."""
