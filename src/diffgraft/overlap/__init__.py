"""Two data sets before any training: what tells them apart, and which method suits."""
