"""The lab: two clusters of several nodes in network namespaces, kernel clients beside them, and what goes wrong there."""
