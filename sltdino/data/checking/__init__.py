"""What is wrong with a data set, before days are spent on it."""
