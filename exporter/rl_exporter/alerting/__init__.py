"""What servers get from this project: rules, dashboards, runbooks, and a receiver of pages."""
