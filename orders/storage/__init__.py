"""Where orders are kept: the table, its queries, and the two kinds of databases."""
