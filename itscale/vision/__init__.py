"""What learned image rewards are built of: files of weights, preprocessing, encoders. Loads no library."""
