"""What faults cost: training runs that are broken in every way that is known, against one to which nothing happens."""
