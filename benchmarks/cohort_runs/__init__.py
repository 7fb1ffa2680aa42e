"""A cohort of real training runs, each labelled by how it was made: what a verdict on heads is worth."""
