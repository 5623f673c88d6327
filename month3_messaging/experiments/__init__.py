"""Questions this month asks of real servers; `./lab experiment` lists and runs them."""
