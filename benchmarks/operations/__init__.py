"""The daily pipeline over days of which one has wrong labels and one is killed in the middle."""
