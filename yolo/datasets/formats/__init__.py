"""Other data sets' forms, made into Darknet's: images, labels, lists, names and a .data file."""
