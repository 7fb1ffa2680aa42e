"""What monitoring servers get from this project: a bundle of their files, and a receiver for pages."""
