"""Sources: a folder, zip, table or list of captchas as people keep them in, samples - a picture's path and its text - out."""
