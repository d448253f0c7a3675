"""Pictures: a file in a folder or zip in, pixels as the network sees them out. No torch.

files → opening → view; decoding does all of it for many files, in parallel, with a cache on disk."""
