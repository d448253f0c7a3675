"""Training: data and a recipe in, the weights of the best epoch out; one that was interrupted goes on."""
